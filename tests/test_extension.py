"""A user's own options and commands: one Python file and one YAML each, and no edit to a file that exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from fork import end, start
from safetensors.torch import load_file

from kdlab.config.stored import read_config

ROOT = Path(__file__).parents[1]
FILES = {
    "gap.py": '''
        """A loss term: the squared gap between the logits' largest and smallest."""
        from kdlab.loss.term import Term

        def spread(logits):
            return logits.max(-1).values - logits.min(-1).values

        class Gap(Term):
            def __init__(self, weight=1.0, power=2.0):
                super().__init__()
                self.weight, self.power = weight, power

            def forward(self, student, teacher, progress):
                return student.mean((spread(student.logits) - spread(teacher.logits)).abs() ** self.power)
        ''',
    "conf/loss/term/gap.yaml": """
        # How far the logits of a row lie apart
        _target_: gap.Gap
        weight: 1.0
        power: 2.0
        """,
    "conf/loss/mine.yaml": """
        # kd plus my term
        defaults: [term@terms.kl: kl, term@terms.gap: gap, _self_]
        _target_: kdlab.loss.objective.Objective
        alpha: 0.9
        temperature: 2.0
        """,
    "gru.py": '''
        """A model: one recurrent layer, no transformers class."""
        from types import SimpleNamespace

        from torch import nn

        from kdlab.model.block import Block

        class GRU(nn.Module):
            def __init__(self, words, width, labels):
                super().__init__()
                self.table = nn.Embedding(words, width)
                self.layer = nn.GRU(width, width, batch_first=True)
                self.classifier = nn.Linear(width, labels)

            def forward(self, input_ids, attention_mask):
                states, _ = self.layer(self.table(input_ids))
                last = (attention_mask.sum(1) - 1).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
                return SimpleNamespace(logits=self.classifier(states.gather(1, last).squeeze(1)))

            def blocks(self):
                layer, head = Block("layer.0", [self.layer]), Block("head", [self.classifier])
                return [Block("embedding", [self.table]), layer, head]

        def gru(width, labels, tokenizer):
            return GRU(len(tokenizer), width, len(labels))
        ''',
    "conf/model/mine.yaml": """
        # A recurrent network
        _target_: gru.gru
        width: 8
        tokenizer: train:wordpiece:200
        """,
    "middle.py": '''
        """A freezing policy: only one block learns."""
        from kdlab.freeze.base import Freeze

        class Middle(Freeze):
            def __init__(self, block):
                self.block = block

            def scales(self, blocks, progress):
                return tuple(float(index == self.block) for index in range(blocks))
        ''',
    "conf/freeze/mine.yaml": """
        # Only the block of this number learns
        _target_: middle.Middle
        block: 1
        """,
    "shout.py": '''
        """A dataset: a line a text, shouted or not."""
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
    "conf/datamodule/mine.yaml": """
        # Loud and calm lines; all that is not set here is as everywhere
        defaults: [base, _self_]
        _target_: shout.Shout
        path: ???
        batch_size: 16
        """,
    "smallest.py": '''
        """`kdlab smallest`: the finished run with the fewest parameters."""
        from pathlib import Path

        from kdlab.error import UserError
        from kdlab.report.read import records

        def main(cfg):
            found = [run for run in records(Path(cfg.outputs)) if run.metrics.get("model/parameters")]
            if not found:
                raise UserError(f"{cfg.outputs} has no finished run; train one, or set outputs=FOLDER")
            run = min(found, key=lambda run: run.metrics["model/parameters"])
            print(f"{run.id}: {run.metrics['model/parameters']:.0f} {cfg.unit}")

        def interrupted(words):
            return "looks again"
        ''',
    "conf/smallest.yaml": """
        # Name the finished run with the fewest parameters
        # kdlab smallest --config-dir=conf
        defaults: [plain, _self_]
        outputs: outputs  # the folder that holds <command>/<id>/
        unit: parameters  # what to call them
        """,
}


@pytest.fixture
def mine(tmp_path) -> Path:
    """The user's folder, outside the repository."""
    folder = tmp_path / "mine"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip())
    lines = [f"the film {number} is {'great !' if number % 2 else 'over .'}" for number in range(80)]
    (folder / "lines.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def words(mine) -> list[str]:
    """A sweep over what is the user's and what is not."""
    size = ["hidden_size=16", "layers=2", "heads=2", "intermediate_size=32", "tokenizer=train:wordpiece:200"]
    shared = ["datamodule=mine", f"datamodule.path={mine / 'lines.txt'}", "trainer.max_epochs=1"]
    recipe = ",".join(f"'{word}'" for word in [*shared, "model=bert_tiny", *[f"model.{word}" for word in size]])
    teacher = ["model@teacher.model=bert_tiny", *[f"teacher.model.{word}" for word in size]]
    return [
        *shared,
        *teacher,
        f"teacher.recipe=[{recipe}]",
        "model@student=mine",
        "optimizer.lr=0.01",
        "logger=none",
        "trainer.log_every_n_steps=1",
    ]


def runs(**choice: str) -> list[Path]:
    """The finished runs with these options, by their own record."""
    found = []
    for path in Path("outputs/distill").glob("*/done.json"):
        if all(read_config(path.parent).choice[group] == name for group, name in choice.items()):
            found.append(path.parent)
    return found


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model/model.safetensors")


def different(one: Path, two: Path) -> set[str]:
    ours, theirs = weights(one), weights(two)
    return {name.split(".")[0] for name in ours if not torch.equal(ours[name], theirs[name])}


@pytest.mark.slow
def test_a_folder_of_ones_own_joins_every_group_of_a_real_sweep(mine, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["distill", "--config-dir", str(mine / "conf"), "-m", *words, "loss=mine,kd", "freeze=mine,none"]
    code, shown = end(start(command, tmp_path), tmp_path)
    assert code == 0, shown
    assert "4 runs: 4 finished" in shown
    (both,), (loss,) = runs(loss="mine", freeze="mine"), runs(loss="mine", freeze="none")
    (freeze,), (neither,) = runs(loss="kd", freeze="mine"), runs(loss="kd", freeze="none")
    assert different(loss, neither) == {"table", "layer", "classifier"}, "the loss changes what is learned"
    assert different(both, freeze) == {"layer"}, "and with the policy only where it lets it"
    assert "train/loss/gap" in (both / "history.csv").read_text().splitlines()[0]
    assert json.loads((both / "model/labels.json").read_text()) == ["calm", "loud"]
    assert both.name.startswith("mine-mine-mine-mine-s0-"), "dataset, student, loss and policy are in the id"
    trainable = json.loads((both / "metrics.json").read_text())
    assert trainable["model/trainable_parameters"] == sum(
        weights(both)[name].numel() for name in weights(both) if name.startswith("layer.")
    )


@pytest.mark.slow
def test_knobs_of_ones_own_work_on_the_command_line_and_through_an_installed_package(mine, words, kdlab, monkeypatch):
    package = mine / "plugin" / "my_kd"
    package.mkdir(parents=True)
    (mine / "conf").rename(package / "conf")
    for folder in (package, package / "conf"):
        (folder / "__init__.py").touch()
    for place in (mine, mine / "plugin"):
        monkeypatch.syspath_prepend(str(place))
    words = ["hydra.searchpath=[pkg://my_kd.conf]", *words, "loss=mine", "freeze=mine"]
    code, out, err = kdlab("distill", "-m", *words, "loss.terms.gap.power=1,2", "freeze.block=0", "student.width=4")
    assert code == 0, out + err
    one, two = sorted(runs(loss="mine"), key=lambda run: read_config(run).loss.terms.gap.power)
    assert different(one, two) == {"table"}
    assert weights(one)["table.weight"].shape[1] == 4
    code, _, err = kdlab("evaluate", f"run={one.name}", "repeats=1")
    assert code == 2
    assert "which no installed option names" in err, "a run alone is no reason to run the code that it names"
    code, out, err = kdlab("evaluate", f"run={one.name}", "repeats=1", words[0])
    assert code == 0, err
    assert "distilled" in out
    words = [word for word in words if not word.startswith("teacher.recipe")]
    code, out, err = kdlab("distill", *words, f"teacher.run={two}", "student.width=2")
    assert code == 0, err
    assert len(runs(loss="mine")) == 3, "a model of one's own can teach"


def test_options_of_ones_own_are_listed_and_a_typo_in_them_fails(mine, kdlab):
    code, out, _ = kdlab("distill", "--config-dir", str(mine / "conf"), "--help")
    assert code == 0
    for group in ("loss", "loss/term", "model", "freeze", "datamodule"):
        name = "gap" if group == "loss/term" else "mine"
        folded = r"[^\n]*(\n {29}[^\n]*)*?"  # a long list goes on in the next lines
        assert re.search(rf"^\s*{group}(@\S+)?\s{folded}\b{name}\b", out, re.MULTILINE), group
    code, _, err = kdlab("distill", "--config-dir", str(mine / "conf"), "freeze=mine", "freeze.blok=2")
    assert code == 2
    assert "blok" in err


@pytest.mark.slow
def test_a_command_of_ones_own(mine, tmp_path, monkeypatch):
    folder = ["--config-dir", str(mine / "conf")]

    def kdlab(*words: str) -> tuple[int, str, str]:
        code = [sys.executable, "-m", "kdlab", *words]
        done = subprocess.run(
            code, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )
        return done.returncode, done.stdout, done.stderr

    for name, size in (("large", 200), ("small", 100)):
        run = tmp_path / "outputs/finetune" / name
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("command: finetune\nseed: 0\n")
        (run / "metrics.json").write_text(json.dumps({"model/parameters": size}))
        (run / "done.json").write_text(json.dumps({"state": "finished", "value": 1.0, "metric": "val/accuracy"}))
    assert kdlab("smallest", *folder) == (0, "small: 100 parameters\n", "")
    assert kdlab("smallest", *folder, "unit=weights")[1] == "small: 100 weights\n"
    code, _, err = kdlab("smallest", *folder, "outputs=nowhere")
    assert (code, err) == (2, "error: nowhere has no finished run; train one, or set outputs=FOLDER\n")
    code, _, err = kdlab("smallest", *folder, "unt=weights")
    assert code == 2 and "There is no setting 'unt' in `kdlab smallest`. Did you mean unit?" in err
    code, out, _ = kdlab("smallest", *folder, "--help")
    assert code == 0 and "kdlab smallest [overrides]" in out and "# what to call them" in out
    assert kdlab("smallest", *folder, "--cfg", "job")[1] == "outputs: outputs\nunit: parameters\n"
    code, out, _ = kdlab("help", *folder)
    assert code == 0 and "  smallest   Name the finished run with the fewest parameters\n" in out
    assert "kdlab smallest [overrides]" in kdlab("help", "smallest", *folder)[1]
    assert kdlab("help", "unit", *folder)[1].startswith("unit: what to call them\n")
    monkeypatch.setenv("COMP_LINE", f"kdlab smallest {' '.join(folder)} un")
    assert kdlab("--shell-completion", "query=bash")[1] == "unit=\n"
    code, _, err = kdlab("smallest")
    assert code == 2 and "'smallest' is not a kdlab command; use one of: distill, finetune, dashboard" in err
    code, _, err = kdlab("smalest", *folder)
    assert code == 2 and "did you mean smallest?" in err


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("json", "def main(cfg): ...", "but the module 'json' is {stdlib}"),
        ("mine2", "def run(cfg): ...", "has no function main(cfg), which `kdlab mine2` calls"),
        ("mine3", None, "conf/mine3.yaml needs a mine3.py with main(cfg) in that folder or beside it"),
    ],
)
def test_a_command_of_ones_own_that_cannot_be_one(name, text, told, tmp_path, kdlab):
    (tmp_path / "conf").mkdir()
    (tmp_path / f"conf/{name}.yaml").write_text("# Mine\ndefaults: [plain, _self_]\na: 1\n")
    if text is not None:
        (tmp_path / f"{name}.py").write_text(text)
    code, _, err = kdlab(name, "--config-dir", "conf")
    assert code == 2 and told.format(stdlib=json.__file__) in err and "Traceback" not in err
