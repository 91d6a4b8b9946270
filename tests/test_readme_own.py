"""The options that the README adds work as they stand there, from a folder outside of the repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kdlab.artifact.run import read_config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
FILES = dict(re.findall(r"^```\w+\n# ((?:mylab|conf)/\S+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))


@pytest.fixture
def mine(tmp_path) -> Path:
    """A folder with the files of the README."""
    for name, content in FILES.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "mine"


def test_the_readme_adds_a_loss_and_a_model():
    assert set(FILES) >= {"mylab/mae.py", "conf/loss/term/mae.yaml", "mylab/gru.py", "conf/model/gru.yaml"}


def test_they_train_in_a_sweep_and_the_result_is_evaluated_and_predicts(mine, tiny, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()

    def kdlab(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "kdlab", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "KDLAB_JOBS": "2"}
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)

    student = [word for word in tiny["distill"] if not word.startswith("student.")]
    student += ["model@student=gru", "student.width=8", "student.tokenizer=train:wordpiece:200", "logger=none"]
    own = ["--config-dir", str(mine / "conf")]
    sweep = ["-m", *student, "loss=kd,ce", "+loss/term@loss.terms.mae=mae", "trainer.max_epochs=1"]
    sweep += ["trainer.log_every_n_steps=1"]
    done = kdlab("distill", *own, *sweep)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = list((place / "outputs" / "distill").glob("*/done.json"))
    assert len(runs) == 2
    (run,) = (path.parent for path in runs if read_config(path.parent).choice["loss"] == "kd")
    assert "train/loss/mae" in (run / "history.csv").read_text().splitlines()[0]
    done = kdlab("predict", f"run={run.name}", f"path={ROOT / 'nothing.csv'}")
    assert done.returncode == 2, "a run alone is no reason to run the code that it names"
    assert "no installed option names" in done.stderr
    (place / "new.csv").write_text("text\na good film\na dull one\n")
    done = kdlab("predict", *own, f"run={run.name}", "path=new.csv", "file=out.jsonl")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]
    assert {row["predicted"] for row in rows} <= {"negative", "positive"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("def blocks(", "def cuts(", "Cannot split GRU into layers. Add a method blocks()"),
        ("labels: list[str], tokenizer)", "tokenizer)", "mylab.gru.gru has no argument 'labels'"),
        ("def forward(", "def run(", "GRU has no method forward(input_ids, attention_mask)"),
        ("return GRU(len", "return print(len", "mylab.gru.gru gives a NoneType where a Module is needed"),
        ("return self.classifier(states", "return 1, (states", "GRU.forward() gives a tuple: let it return the logits"),
    ],
)
def test_what_a_model_lacks_is_named(old, new, told, mine, tiny, kdlab, monkeypatch):
    source = mine / "mylab" / "gru.py"
    assert source.read_text().count(old) == 1
    source.write_text(source.read_text().replace(old, new))
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not place.endswith("/mine")])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("KDLAB_OWN", "")
    words = [word for word in tiny["finetune"] if not word.startswith("model")]
    words += ["model=gru", "model.width=8", "model.tokenizer=train:wordpiece:200", "logger=none"]
    code, _, err = kdlab("finetune", "--config-dir", str(mine / "conf"), *words)
    assert code == 2, err
    assert told in err
    assert "Traceback" not in err
