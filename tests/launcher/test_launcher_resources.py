"""Jobs side by side share out cores and GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

from kdlab.launcher import resources

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("jobs", "each"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1), (-1, 1), (-2, 1), (-5, 2)])
def test_cores_are_divided(monkeypatch, jobs, each):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert resources.cores(jobs) == each


@pytest.mark.parametrize(("told", "seen"), [("", []), ("-1", []), ("0", ["0"]), ("3, GPU-ab", ["3", "GPU-ab"])])
def test_which_gpus_are_there(monkeypatch, told, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    assert resources.visible() == seen


def test_the_driver_itself_keeps_all(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    resources.take_gpus(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def _job(folder: str, devices: int, pipe) -> None:
    os.environ |= {"CUDA_VISIBLE_DEVICES": "4,7", "TMPDIR": folder}
    resources.take_gpus(devices)
    resources.take_gpus(devices)  # a second job in the same process
    pipe.send(os.environ["CUDA_VISIBLE_DEVICES"])
    pipe.recv()


@pytest.mark.sampled(1, tried="all")
@pytest.mark.parametrize(
    ("devices", "given"), [([1, 1], ["4", "7"]), ([1, 1, 1, 1], ["4", "4", "7", "7"]), ([2, 1], ["4", "4,7"])]
)
def test_each_gpu_is_given_once_before_one_is_given_twice(tmp_path, devices, given):
    context, jobs = get_context("spawn"), []
    for number in devices:
        ours, theirs = context.Pipe()
        process = context.Process(target=_job, args=(str(tmp_path), number, theirs))
        process.start()
        jobs.append((process, ours, ours.recv()))
    for process, pipe, _ in jobs:
        pipe.send("end")
        process.join()
    assert sorted(gpus for *_, gpus in jobs) == given


@pytest.mark.slow
def test_two_jobs_at_a_time_have_half_of_the_cores_and_a_gpu_each(tiny, tmp_path):
    """As configured, on a machine that says it has two GPUs; the trainer may take one, and finds none."""
    words = ["-m", *tiny["finetune"], "cluster=joblib", "hydra.launcher.n_jobs=2", "seed=0,1", "logger=none"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "4,7", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "kdlab", "finetune", *words, "trainer.max_epochs=1", "trainer.accelerator=auto"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/finetune/*/environment.json")]
    assert sorted(run["visible_gpus"] for run in runs) == ["4", "7"]
    for path in tmp_path.glob("outputs/finetune/*/config.yaml"):
        assert f"threads: {max(1, len(os.sched_getaffinity(0)) // 2)}\n" in path.read_text()
