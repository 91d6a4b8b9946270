"""What a submission does before and after `sbatch` answers, with programs in the place of SLURM's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
REFUSES = "echo called >> sbatch.log; echo 'sbatch: error: invalid partition specified: nowhere' >&2; exit 1"
TAKES = "echo called >> sbatch.log; echo 'Submitted batch job 7'"


@pytest.fixture
def multirun(tmp_path, tiny):
    """Run ``kdlab finetune -m`` of tiny models in an empty folder, with these programs in the place of SLURM's."""
    (tmp_path / "bin").mkdir()

    def run(*words: str, **programs: str) -> tuple[int, str]:
        for name, script in ({"squeue": "exit 0", "sacct": "exit 0", "srun": "exit 1"} | programs).items():
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / "bin" / name).chmod(0o755)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        command = [sys.executable, "-m", "kdlab", "finetune", "-m", *tiny["finetune"], "logger=none", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    return run


QUICK = ["hydra.launcher.poll_seconds=0.1", "hydra.launcher.settle_seconds=0.1"]


def test_rerun_keeps_a_run_until_slurm_has_taken_its_job(multirun, tmp_path):
    assert multirun("trainer.max_epochs=1")[0] == 0
    (run,) = tmp_path.glob("outputs/finetune/*/done.json")
    files = [path for path in run.parent.rglob("*") if path.is_file() and path.name not in (".lock", "sweep.json")]
    before = {path: path.read_bytes() for path in files}
    again = ["trainer.max_epochs=1", "cluster=slurm", *QUICK, "rerun=true"]
    code, said = multirun(*again, sbatch=REFUSES)
    assert code == 2, said
    assert "sbatch refused the jobs" in said
    assert (tmp_path / "sbatch.log").exists()
    assert {path: path.read_bytes() for path in before} == before, "as it was"
    code, said = multirun(*again, sbatch=TAKES)
    assert code == 1, said
    assert "ended without a result" in said, "its job is lost, and the old result is none of this command"
    assert not run.exists()


@pytest.mark.fault(name="a result that a slow file system shows after its job is gone", runs=1)
def test_a_slow_file_system_is_waited_for(multirun, tmp_path):
    assert multirun("trainer.max_epochs=1")[0] == 0
    (done,) = tmp_path.glob("outputs/finetune/*/done.json")
    done.rename(tmp_path / "late")
    late = f"(sleep 2; mv late {done}) > /dev/null 2>&1 & echo 'Submitted batch job 7'"
    patient = ["hydra.launcher.poll_seconds=0.1", "hydra.launcher.settle_seconds=60"]
    code, said = multirun("trainer.max_epochs=1", "cluster=slurm", *patient, sbatch=late)
    assert code == 0, said
    assert "1 runs: 1 finished" in said


@pytest.mark.parametrize("cluster", ["slurm", "joblib", "ray"])
def test_a_bad_point_is_refused_before_anything_is_submitted(kdlab, tiny, tmp_path, monkeypatch, cluster):
    (tmp_path / "bin").mkdir()
    for name, script in (("squeue", "exit 0"), ("sbatch", TAKES)):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    words = [*tiny["finetune"], "logger=none", f"cluster={cluster}", "optimizer.lr=0.001,fast", "trainer.max_epochs=1"]
    code, out, err = kdlab("finetune", "-m", *words)
    assert code == 2, out + err
    assert "point 2 of 2 (optimizer.lr=fast)" in err.splitlines()[-1]
    assert not (tmp_path / "sbatch.log").exists()
    assert not list(tmp_path.glob("outputs/finetune/*/*"))
