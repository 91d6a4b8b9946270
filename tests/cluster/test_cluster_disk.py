"""Disks that are full or read-only, locks of the dead, clocks that disagree: told in a sentence, nothing corrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bits import same_run
from sweeps import LONG, PYTHONPATH, local

pytestmark = pytest.mark.cluster


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of 2 MB."""
    if os.geteuid():
        pytest.skip("needs root to mount a small file system")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def distill(folder: Path, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "kdlab", "distill", *words, "logger=none", "cluster.threads=1"]
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)
    return done.returncode, done.stdout + done.stderr


def equal_to(undisturbed: Path, runs: list[Path]) -> None:
    assert runs
    for run in runs:
        same_run(undisturbed / "outputs/distill" / run.name, run)


@pytest.mark.fault(name="disk full", runs=1)
def test_a_full_disk(tiny, undisturbed, disk, tmp_path):
    words = [*tiny["distill"], *LONG, "student.intermediate_size=32", "outputs=disk"]
    for name in ("finetune", "store"):
        shutil.copytree(undisturbed / "outputs" / name, disk / name)
    used = sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler.write_bytes(b"0" * (free - 60_000))  # room for a config and a few rows, and for no checkpoint
    code, said = distill(tmp_path, *words)
    assert code != 0
    assert used > 0
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: ") and "No space left on device" in last, said[-2000:]
    assert not list(disk.glob("distill/*/done.json"))
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
    code, said = distill(tmp_path, *words)
    assert code == 0, said
    equal_to(undisturbed, [path.parent for path in disk.glob("distill/*/done.json")])


@pytest.mark.fault(name="read-only file system", runs=1)
def test_a_read_only_file_system(tiny, disk, tmp_path):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    code, said = distill(tmp_path, *tiny["distill"], "outputs=disk")
    assert code == 2
    (line,) = said.strip().splitlines()
    assert line.startswith("error: Read-only file system: ")
    assert "outputs=FOLDER" in line


@pytest.mark.fault(name="locks of dead processes, clocks that disagree", runs=1)
def test_locks_of_the_dead_and_clocks_that_disagree(tiny, undisturbed, tmp_path):
    """The files of another node come from the future or the past, and the locks from a process that died."""
    shutil.copytree(undisturbed / "outputs", tmp_path / "outputs")
    (run,) = tmp_path.glob("outputs/distill/*-s0-*")
    (run / "done.json").unlink()
    day = 86_400
    for number, path in enumerate(sorted(tmp_path.rglob("*"))):
        now = path.stat().st_mtime
        os.utime(path, (now + day, now + day) if number % 2 else (now - 400 * day, now - 400 * day))
    for lock in [*tmp_path.glob("outputs/*/*/.lock"), *tmp_path.glob("outputs/store/.*.lock")]:
        lock.write_text("process 999999 on a-node-that-is-gone")
    local(tmp_path, *tiny["distill"], *LONG, "seed=0")
    equal_to(undisturbed, [run])
