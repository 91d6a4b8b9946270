"""A sweep on a Ray of this machine: each run once, one that fails or is killed among others, nothing done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
DEADLY = """
import os, signal
from pathlib import Path
import lightning.pytorch as pl

class Deadly(pl.Callback):
    def __init__(self, folder):
        self.folder = Path(folder)

    def on_train_batch_end(self, trainer, learner, outputs, batch, batch_idx):
        if batch_idx == 1 and "-s2-" in self.folder.name and not Path("spared").exists():
            os.kill(os.getpid(), signal.SIGKILL)
"""


def kdlab(folder: Path, *words: str) -> tuple[int, str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{folder}", "COLUMNS": "300"}
    command = [sys.executable, "-m", "kdlab", *words, "logger=none", "cluster=ray"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.fault(name="Ray: NaN and `kill -9` beside a good run", runs=4, injected=3)
def test_a_sweep_on_ray(tiny, tmp_path):
    """Four runs of one teacher: two seeds, each at a good rate and at one that breaks it; seed 2 is killed."""
    (tmp_path / "deadly.py").write_text(DEADLY)
    option = tmp_path / "own/callback/deadly.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("# Kills the job of seed 2\ndeadly: {_target_: deadly.Deadly}\n")
    words = ["distill", "-m", "--config-dir", "own", *tiny["distill"], "callback=[default,deadly]", "optimizer=sgd"]
    words += ["trainer.gradient_clip_val=null", "callback.finite.every_n_steps=1", "trainer.max_epochs=1"]
    first = [*words, "seed=1,2", "optimizer.lr=0.001,1e30"]
    code, said = kdlab(tmp_path, *first)
    assert code == 1, said
    assert "4 runs: 0 finished before, 4 submitted" in said
    assert "4 runs: 1 finished, 3 failed" in said
    assert "Traceback" not in said
    assert len(list(tmp_path.glob("outputs/finetune/*/done.json"))) == 1, "one teacher for all"
    assert len(list(tmp_path.glob("outputs/store/*/meta.json"))) == 1, "asked once"
    reasons = [json.loads(path.read_text())["error"] for path in tmp_path.glob("outputs/distill/*/failed.json")]
    assert sum("its worker died" in reason for reason in reasons) >= 1
    assert sum("NaN or infinite" in reason for reason in reasons) >= 1
    (done,) = tmp_path.glob("outputs/distill/*/done.json")
    before = done.read_bytes()

    (tmp_path / "spared").touch()
    code, said = kdlab(tmp_path, *words, "seed=1,2", "optimizer.lr=0.001")
    assert code == 0, said
    assert "2 runs: 1 finished before, 1 submitted" in said
    assert "2 runs: 2 finished" in said
    assert done.read_bytes() == before
    code, said = kdlab(tmp_path, *words, "seed=1,2", "optimizer.lr=0.001")
    assert code == 0, said
    assert "2 runs: 2 finished before, 0 submitted" in said


def test_more_than_the_machine_has_and_a_cluster_that_is_not_there_are_told(tiny, tmp_path):
    code, said = kdlab(tmp_path, "finetune", "-m", *tiny["finetune"], "seed=1,2", "hydra.launcher.cpus=4000")
    assert code == 2, said
    assert "hydra.launcher.cpus=4000, but this machine has" in said.strip().splitlines()[-1]
