"""Hundreds of runs through one driver: its memory and its open files stay as they were. KDLAB_RUNS says how many."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNS = int(os.environ.get("KDLAB_RUNS", "80"))


def resident(pid: int) -> float:
    """MB of memory that are the process's own."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
@pytest.mark.rare
def test_the_driver_of_many_runs_keeps_its_size(tiny, tmp_path, record_property):
    words = [*tiny["distill"], "logger=wandb", "trainer.max_epochs=1", f"seed=range({RUNS})"]
    command = [sys.executable, "-m", "kdlab", "distill", "-m", *words]
    with (tmp_path / "said").open("w") as log:
        driver = subprocess.Popen(
            command, cwd=tmp_path, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        seen: dict[int, tuple[float, int, float]] = {}
        while driver.poll() is None:
            done = len(list(tmp_path.glob("outputs/distill/*/done.json")))
            try:
                files = len(list(Path(f"/proc/{driver.pid}/fd").iterdir()))
                seen.setdefault(done, (resident(driver.pid), files, time.monotonic()))
            except OSError:
                break
            time.sleep(0.05)
    assert driver.wait() == 0, (tmp_path / "said").read_text()
    assert len(list(tmp_path.glob("outputs/distill/*/done.json"))) == RUNS
    begin = min((done for done in seen if done >= RUNS // 2), key=lambda done: done)
    end = max(done for done in seen if done < RUNS)
    (memory, _, clock), (memory_end, _, clock_end) = seen[begin], seen[end]
    # what waits for the garbage collector comes and goes, so the fewest files of each quarter are compared
    files, files_end = (
        min(seen[done][1] for done in seen if first <= done < first + RUNS // 4)
        for first in (RUNS // 2, RUNS - RUNS // 4)
    )
    per_run = (clock_end - clock) / (end - begin)
    grown = (memory_end - memory) / (end - begin)
    record_property("seconds_per_run", per_run)
    print(
        f"{RUNS} runs: {per_run:.2f} s a run; {memory:.0f} MB after {begin}, {memory_end:.0f} MB after {end}", end="; "
    )
    print(f"at least {files} open files in the third quarter, {files_end} in the last")
    assert files_end <= files + 3
    assert grown < 0.3, f"{grown:.2f} MB a run"
