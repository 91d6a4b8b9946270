"""What is read of SLURM's answers, with programs in its place; the real ones are asked in tests/cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlab import queue
from kdlab.error import UserError


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a shell script in the place of one of SLURM's programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def write(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return write


def test_jobs_are_found_by_their_place_in_the_array(program, tmp_path):
    runs = [tmp_path / name for name in ("a", "b", "c")]
    queue.announce(tmp_path / "s", "0123abcd", runs)
    queue.announce(tmp_path / "s", "89abcdef", [tmp_path / "alone"])
    lines = [
        "7|0|RUNNING|kdlab-0123abcd|n1",
        "7|2|PENDING|kdlab-0123abcd|(Resources)",
        "7|9|PENDING|kdlab-0123abcd|(beyond the array)",
        "8|N/A|RUNNING|my-own-name-89abcdef|n2",
        "9|0|RUNNING|somebody-elses|n2",
        "10|0|RUNNING|kdlab-ffffffff|n2",
    ]
    program("squeue", "cat <<'X'\n" + "\n".join(lines) + "\nX")
    found = queue.pending(tmp_path / "s")
    assert found == {
        runs[0]: queue.Queued("7_0", "RUNNING", "n1"),
        runs[2]: queue.Queued("7_2", "PENDING", "(Resources)"),
        tmp_path / "alone": queue.Queued("8", "RUNNING", "n2"),
    }


def test_a_queue_that_cannot_be_asked_says_nothing_of_the_jobs(program, tmp_path):
    program("squeue", "exit 1")
    assert queue.pending(tmp_path) is None
    with pytest.raises(UserError, match="cluster=slurm: down"):
        program("squeue", "echo down >&2; exit 1")
        queue.check()


def test_a_machine_without_slurm_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="run the command on a login node"):
        queue.check()


@pytest.mark.parametrize("key", ["../../etc", "", "0123abc", "0123ABCD", "0123abcde"])
def test_only_our_own_keys_are_looked_up(key, tmp_path):
    assert queue.announced(tmp_path, key) == []


@pytest.mark.parametrize("content", ["", "{", "7", '{"a": 1}', "[1, 2]"])
def test_a_damaged_list_of_runs_names_none_that_is_ours(content, tmp_path):
    (tmp_path / "0123abcd.json").write_text(content)
    assert all(not Path(run).is_absolute() for run in queue.announced(tmp_path, "0123abcd"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("COMPLETED|0:0|n1", "COMPLETED on n1"),
        ("OUT_OF_MEMORY|0:125|n1", "OUT_OF_MEMORY, signal 125 on n1"),
        ("FAILED|1:0|n[1-2]", "FAILED, exit code 1 on n[1-2]"),
        ("NODE_FAIL|0:0|n1\nCANCELLED by 0|0:15|n2", "CANCELLED by 0, signal 15 on n2"),
        ("", ""),
    ],
)
def test_how_a_job_ended(program, said, told):
    program("sacct", f"cat <<'X'\n{said}\nX" if said else "true")
    assert queue.ending("7") == told


@pytest.mark.parametrize(
    ("said", "goes_on"),
    [
        ("RUNNING|None", True),  # preempted, or warned of the end of its walltime
        ("COMPLETING|TimeLimit", True),
        ("COMPLETING|None", False),  # cancelled
        ("", False),
    ],
)
def test_a_job_that_only_loses_its_place_is_told_from_one_that_was_cancelled(program, said, goes_on):
    program("squeue", f"echo '{said}'" if said else "true")
    assert queue.displaced("7_0") is goes_on
