"""A data set of one's own, in a folder outside of this repository: a short option that derives from base or table."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

FILES = {
    "own_shout.py": '''
        """A line a text, shouted or not."""
        from dataclasses import dataclass
        from pathlib import Path

        from kdlab.datamodule.base import TextData
        from kdlab.datamodule.corpus import Corpus

        @dataclass(kw_only=True, eq=False, repr=False)
        class Shout(TextData):
            path: str

            def corpus(self):
                texts = Path(self.path).read_text().split("\\n")
                return Corpus("shout", texts, ["loud" if text.endswith("!") else "calm" for text in texts])
        ''',
    "conf/datamodule/shout.yaml": """
        # Loud and calm lines
        defaults: [base, _self_]
        _target_: own_shout.Shout
        path: ???   # the file
        """,
    "conf/datamodule/tweets.yaml": """
        # A table of one's own, with its columns
        defaults: [table, _self_]
        path: tweets.csv
        text_column: tweet
        label_column: mood
        label_map: {0: negative, 1: positive}
        """,
}


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "mine"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip())
    monkeypatch.syspath_prepend(str(folder))
    return folder


def model(tiny) -> list[str]:
    return [word for word in tiny["finetune"] if not word.startswith("datamodule")]


@pytest.mark.parametrize("option", ["shout", "tweets"])
def test_a_short_option_has_all_keys_of_what_it_derives_from(kdlab, tiny, mine, option):
    lines = [f"film {number} is {'great !' if number % 2 else 'over .'}" for number in range(60)]
    Path("lines.txt").write_text("\n".join(lines))
    Path("tweets.csv").write_text("\n".join(["tweet,mood", *[f"{line},{n % 2}" for n, line in enumerate(lines)]]))
    words = ["datamodule=shout", "datamodule.path=lines.txt"] if option == "shout" else ["datamodule=tweets"]
    words += ["datamodule.batch_size=8", "datamodule/augment=word_dropout", *model(tiny), "trainer.max_epochs=1"]
    code, out, err = kdlab("finetune", "--config-dir", str(mine / "conf"), *words, "logger=none")
    assert code == 0, out + err
    (labels,) = Path("outputs/finetune").glob("*/model/labels.json")
    expected = {"shout": ["calm", "loud"], "tweets": ["negative", "positive"]}
    assert json.loads(labels.read_text()) == expected[option]


def test_the_base_alone_is_no_data_set(kdlab, tiny):
    code, _, err = kdlab("finetune", "datamodule=base", *model(tiny))
    assert code == 2
    assert "datamodule._target_ has no value" in err
