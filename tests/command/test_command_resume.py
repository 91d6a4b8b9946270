"""kill -9 in the middle, then the same command: it goes on, and ends with the same weights, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file


def start(words: list[str], outputs: str, folder: Path) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "kdlab", *words, f"outputs={outputs}"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("freeze", ["none", "gradual"])
def test_a_killed_run_goes_on_to_the_same_weights_and_history(tmp_path, tiny, freeze):
    words = ["distill", *tiny["distill"], "trainer.max_epochs=40", "trainer.log_every_n_steps=1", f"freeze={freeze}"]
    words += ["callback.checkpoint.every_n_steps=3", "logger=none"]
    whole = start(words, "whole", tmp_path)
    out, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0, out

    killed = start(words, "killed", tmp_path)
    deadline = time.monotonic() + 90
    while (
        not (found := list((tmp_path / "killed/distill").glob("*/checkpoints/last.ckpt")))
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(killed.pid, 9)
    killed.wait()
    assert found
    run = found[0].parents[1]
    assert not (run / "done.json").exists(), "killed too late to prove anything"
    stopped_at = torch.load(found[0], weights_only=True)["global_step"]
    assert 0 < stopped_at < 40 * 8

    again = start(words, "killed", tmp_path)
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0, out
    other = next(iter((tmp_path / "whole/distill").glob("*")))
    assert other.name == run.name
    one, two = load_file(other / "model/model.safetensors"), load_file(run / "model/model.safetensors")
    assert all(torch.equal(one[name], two[name]) for name in one)
    last = [torch.load(place / "checkpoints/last.ckpt", weights_only=True) for place in (other, run)]
    assert last[0]["global_step"] == last[1]["global_step"]
    assert all(torch.equal(last[0]["state_dict"][k], last[1]["state_dict"][k]) for k in last[0]["state_dict"])
    assert history(other) == history(run)


def history(run: Path) -> list[str]:
    """The loss columns; times differ."""
    import csv

    rows = list(csv.DictReader((run / "history.csv").open()))
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]
