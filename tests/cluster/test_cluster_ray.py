"""A sweep on a Ray of this machine: each run once, one that fails or is killed among others, nothing done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from deadly import offered

pytest.importorskip("ray")
pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]


def kdlab(folder: Path, *words: str) -> tuple[int, str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "COLUMNS": "300"}
    command = [sys.executable, "-m", "kdlab", *words, "logger=none", "cluster=ray"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.fault(name="Ray: NaN and `kill -9` beside a good run", runs=4, injected=3)
def test_a_sweep_on_ray(tiny, tmp_path):
    """Four runs of one teacher: two seeds, each at a good rate and at one that breaks it; seed 2 is killed."""
    words = ["distill", "-m", *offered(tmp_path), *tiny["distill"], "optimizer=sgd"]
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
