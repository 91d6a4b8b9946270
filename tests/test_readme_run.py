"""Every training command of the front pages and the guide does a step, on small made-up data and models."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import FRONT, GUIDE, commands, shown
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_experiments import made_up  # noqa: F401  a fixture: stand-ins for what the experiments fetch
from test_extension_modality import sentences, squares

from kdlab.config import conf

ELSEWHERE = re.compile(
    r"cluster=|trainer=(gpu|ddp|fsdp)|sweep=|compile=true|--cfg|--help|-h$"
)  # other tests have these
TRAINS = re.compile(r"kdlab (distill|finetune) ")
LINES = sorted(
    {
        " ".join(shlex.quote(word) for word in shlex.split(line, comments=True))
        for path in [*FRONT, *GUIDE]
        for line in commands(path)
        if TRAINS.match(line) and not any(ELSEWHERE.match(word) for word in shlex.split(line, comments=True))
    }
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with all files that the documents' commands name."""
    folder = tmp_path_factory.mktemp("place")
    for name, content in shown().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    draw, words = random.Random(0), ["the", "film", "is", "a", "and", "story", "with", "actors", "this", "very", "plot"]
    texts = [f"{' '.join(draw.choices(words, k=6))} {number}" for number in range(700)]
    sides = [number % 2 for number in range(700)]
    names = [("negative", "positive")[side] for side in sides]
    several = [("billing", "urgent", "billing;urgent")[number % 3] for number in range(700)]
    tables: dict[str, dict[str, list]] = {
        "reviews.csv": {"text": texts, "label": names, "body": texts, "stars": sides},
        "pairs.csv": {"question": texts, "answer": texts, "source": texts, "target": texts, "label": names},
        "news.csv": {"title": texts, "body": texts, "label": names},
        "codes.csv": {"text": texts, "label": sides},
        "tickets.csv": {"text": texts, "label": several, "subject": texts, "body": texts, "topics": several},
        "toxic.csv": {"text": texts, "toxic": sides, "insult": [1 - side for side in sides]},
        "texts.csv": {"text": texts},
        "scores.csv": {"text": texts, "score": [number % 9 - 4 for number in range(700)]},
    }
    for name, columns in tables.items():
        rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        (folder / name).write_text("\n".join(rows))
    rows = ["text;label", *(f"{text} 好;{name}" for text, name in zip(texts, names, strict=True))]
    (folder / "alt.csv").write_text("\n".join(rows), "gb18030")
    for number, (text, name) in enumerate(zip(texts, names, strict=True)):
        (folder / "texts" / name).mkdir(parents=True, exist_ok=True)
        (folder / "texts" / name / f"{number}.txt").write_text(text)
    words = [{"tokens": text.split(), "tags": ["B-A"] + ["O"] * 6} for text in texts[:200]]
    rows = [dict(zip(("tokens", "ner_tags"), one.values(), strict=True)) for one in words]
    (folder / "entities.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = ["\n".join(map(" ".join, zip(*one.values(), strict=True))) for one in words]
    (folder / "entities.conll").write_text("\n\n".join(lines))
    squares(folder / "squares")
    sentences(folder / "tagged.tsv")
    return folder


def small(line: str, run: str, student: str) -> list[str]:
    """The words of a command, as one run of one batch with a teacher of one batch.

    Placeholders stand for ``run``, and after ``start=`` for ``student``.
    """
    words = [word for word in shlex.split(line)[1:] if word not in ("-m", "--multirun", "download=true")]
    folder = f"outputs/finetune/{run}/model"
    words = [
        re.sub(r"\bRUN_\w+", student if word.startswith("start=") else run, word).replace("FOLDER", folder)
        for word in words
    ]
    flags = [word for word in words if word.startswith("--")]
    verb, *words = [word for word in words if not word.startswith("--")]
    parsed = OverridesParser.create().parse_overrides(words)
    words = [
        f"{word.split('=')[0]}={next(iter(one.sweep_string_iterator()))}" if one.is_sweep_override() else word
        for word, one in zip(words, parsed, strict=True)
    ]
    words += ["datamodule.path=tickets.csv"] if "datamodule=tickets" in words else []
    words += ["debug=one_batch", *(["logger=none"] if not any("logger" in word for word in words) else [])]
    with initialize_config_dir(str(conf()), version_base="1.3"):
        own = f"hydra.searchpath=['{Path('conf').absolute().as_uri()}']"
        teacher = compose(verb, [*words, own]).get("teacher") or {}
    if "recipe" in teacher and not teacher.get("run"):
        words = [word for word in words if not word.startswith("teacher.recipe=")]
        words.append(f"teacher.recipe=[{','.join(map(repr, [*map(str, teacher.recipe), 'debug=one_batch']))}]")
    return [verb, *flags, *words, "download=false"]


@pytest.fixture(scope="module")
def trained() -> Callable[..., tuple[str, str]]:
    """Makes the runs that RUN_ID stands for, once: a fine-tuned model, and a student of it."""
    known: list[str] = []

    def get(kdlab: Callable[..., tuple[int, str, str]]) -> tuple[str, str]:
        for verb in ("finetune", "distill")[len(known) :]:
            words = ["datamodule=table", "datamodule.path=reviews.csv", "debug=one_batch", "logger=none"]
            words += [f"teacher.run={known[0]}"] if known else []
            code, out, err = kdlab(verb, *words)
            assert code == 0, out + err
            (run,) = (path.parent.name for path in Path("outputs", verb).glob("reviews-*/done.json"))
            known.append(run)
        return known[0], known[1]

    return get


@pytest.mark.sampled(0, tried=9)
@pytest.mark.parametrize("line", LINES)
def test_a_documented_training_does_a_step(line, kdlab, place, made_up, trained, monkeypatch):  # noqa: F811
    monkeypatch.setenv("KDLAB_CACHE", str(made_up))
    monkeypatch.chdir(place)
    code, out, err = kdlab(*small(line, *trained(kdlab)))
    assert code == 0, out + err


def test_there_are_trainings_to_do():
    assert len(LINES) > 40
