"""A run on two processes is the run on one."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def distill(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "kdlab", "distill", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=dict(os.environ))


def only(folder: Path) -> Path:
    (run,) = [path.parent for path in folder.glob("distill/*/done.json")]
    return run


def curve(run: Path, name: str) -> list[float]:
    return [float(row[name]) for row in csv.DictReader((run / "history.csv").open()) if row.get(name)]


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["none", "bottom", "gradual"])
def test_two_processes_give_the_curve_and_the_weights_of_one(tmp_path, tiny, freeze):
    words = [
        *tiny["distill"],
        "optimizer=sgd",
        "optimizer.lr=0.1",
        "student.dropout=0",
        f"freeze={freeze}",
        "loss=hint",
    ]
    words += ["teacher.model.dropout=0", "trainer.log_every_n_steps=1", "logger=none", "cluster.threads=1"]
    words += ["freeze.layers=1"] if freeze == "bottom" else []
    strategy = ["trainer.strategy=ddp_find_unused_parameters_true"] if freeze == "gradual" else []
    for outputs, more in (("one", []), ("two", [*TWO, *strategy])):
        done = distill(tmp_path, *words, f"outputs={outputs}", *more)
        assert done.returncode == 0, done.stdout + done.stderr
    one, two = only(tmp_path / "one"), only(tmp_path / "two")
    for name in ("train/loss", "train/loss/hint", "val/loss", "val/accuracy", "test/loss", "test/accuracy"):
        assert curve(two, name) == pytest.approx(curve(one, name), abs=1e-5), name
    ours, theirs = load_file(one / "model/model.safetensors"), load_file(two / "model/model.safetensors")
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5
    assert torch.load(two / "checkpoints/last.ckpt", weights_only=True)["global_step"] == len(curve(one, "train/loss"))


def test_a_policy_that_changes_over_time_is_refused_where_ddp_could_not_follow(kdlab, tiny):
    words = [*tiny["distill"], *TWO, "freeze=gradual", "logger=none"]
    words = [word for word in words if not word.startswith("teacher.recipe")]
    code, _, err = kdlab("distill", *words, "loss=ce")
    assert code == 2
    assert "trainer.strategy=ddp_find_unused_parameters_true" in err


@pytest.mark.slow
def test_a_process_that_fails_ends_the_run_with_a_sentence(tmp_path, tiny):
    words = [*tiny["distill"], *TWO, "logger=none", "loss=ce"]
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('LOCAL_RANK') == '1': raise SystemExit('no device')"
    )
    os.environ["PYTHONPATH"], before = os.pathsep.join([str(broken), *sys.path]), os.environ.get("PYTHONPATH", "")
    try:
        done = distill(tmp_path, *words)
    finally:
        os.environ["PYTHONPATH"] = before
    assert done.returncode == 2
    assert "the process of device 1 failed: " in done.stderr
    assert not list(tmp_path.glob("outputs/distill/*/done.json"))
