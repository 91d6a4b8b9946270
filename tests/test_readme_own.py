"""The options that the README and the guide show work as they are, from a folder outside of the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, files, shown

from kdlab.config.stored import read_config


@pytest.fixture
def mine(tmp_path) -> Path:
    """A folder with the files of the documents."""
    for name, content in shown().items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "mine"


def test_the_readme_adds_a_loss_and_the_guide_more():
    assert set(files(ROOT / "README.md")) == {"mylab/mae.py", "conf/loss/term/mae.yaml", "mylab/test_mae.py"}
    assert {"conf/smallest.py", "conf/smallest.yaml"} <= set(shown())
    groups = {Path(name).parent.as_posix() for name in shown() if name.startswith("conf/")}
    assert groups >= {f"conf/{group}" for group in ("loss/term", "model", "datamodule", "freeze", "metric")}


@pytest.mark.slow
def test_the_test_of_the_loss_passes_and_can_fail(mine):
    def passes() -> bool:
        command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "mylab/test_mae.py"]
        environment = os.environ | {"PYTHONPATH": f"{mine}{os.pathsep}{ROOT}"}
        return not subprocess.run(command, cwd=mine, env=environment, capture_output=True).returncode

    assert passes()
    code = mine / "mylab/mae.py"
    code.write_text(code.read_text().replace(".abs()", ""))
    assert not passes()


@pytest.mark.slow
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
    assert kdlab("smallest", *own).stdout.startswith(runs[0].parent.name.partition("-")[0])
    rows = [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]
    assert {row["predicted"] for row in rows} <= {"negative", "positive"}


def test_data_freezing_and_metric_of_the_guide_train(mine, tiny, kdlab, tmp_path):
    texts = Path(next(word for word in tiny["finetune"] if word.startswith("datamodule.path=")).partition("=")[2])
    for number, row in enumerate(texts.read_text("utf-8").splitlines()[1:]):
        text, label = row.split(",")[:2]
        (tmp_path / "texts" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / label / f"{number}.txt").write_text(text)
    words = [word for word in tiny["finetune"] if not word.startswith(("datamodule=", "datamodule.path=", "freeze"))]
    words += ["datamodule=folders", f"datamodule.root={tmp_path / 'texts'}", "freeze=unfreeze_top"]
    words += ["metric=[recall,saliency,cost]", "transform=[prune]"]
    words += ["callback.checkpoint.monitor=val/recall_macro", "trainer.max_epochs=2", "logger=none"]
    code, _, err = kdlab("finetune", "--config-dir", str(mine / "conf"), *words)
    assert code == 0, err
    (run,) = (path.parent for path in tmp_path.rglob("done.json"))
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["test/recall_macro"] <= 1 and metrics["test/saliency"] > 0
    assert metrics["model/trainable_parameters"] < metrics["model/parameters"]


@pytest.mark.slow
def test_the_stored_settings_of_a_file_train(mine, tiny, kdlab, tmp_path):
    rows = [f'film {number % 7},body {number},"{("a", "b", "a;b")[number % 3]}"' for number in range(120)]
    (tmp_path / "tickets.csv").write_text("\n".join(["subject,body,topics", *rows]))
    words = [word for word in tiny["finetune"] if not word.startswith(("datamodule=", "datamodule.path="))]
    words += [
        "datamodule=tickets",
        f"datamodule.path={tmp_path / 'tickets.csv'}",
        "trainer.max_epochs=1",
        "logger=none",
    ]
    code, _, err = kdlab("finetune", "--config-dir", str(mine / "conf"), *words)
    assert code == 0, err
    (run,) = (path.parent for path in tmp_path.rglob("done.json"))
    assert json.loads((run / "metrics.json").read_text())["model/parameters"] > 0


@pytest.mark.sampled(1, tried="all")
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
def test_what_a_model_lacks_is_named(old, new, told, mine, tiny, kdlab):
    source = mine / "mylab" / "gru.py"
    assert source.read_text().count(old) == 1
    source.write_text(source.read_text().replace(old, new))
    words = [word for word in tiny["finetune"] if not word.startswith("model")]
    words += ["model=gru", "model.width=8", "model.tokenizer=train:wordpiece:200", "logger=none"]
    code, _, err = kdlab("finetune", "--config-dir", str(mine / "conf"), *words)
    assert code == 2, err
    assert told in err
    assert "Traceback" not in err
