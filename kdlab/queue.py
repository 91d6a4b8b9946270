"""The state of our jobs in SLURM's queue. Only ``squeue`` is needed; ``sacct`` adds why a job ended, where kept."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kdlab.error import UserError
from kdlab.file import write_json


@dataclass(frozen=True)
class Queued:
    """A job in the queue: pending, running, or about to end.

    Attributes:
        id: ``1234_5`` in an array, ``1234`` outside.
        state: SLURM's word, such as PENDING.
        why: the reason that a pending job waits, or the nodes of a running one.
    """

    id: str
    state: str
    why: str


def pending(folder: Path) -> dict[Path, Queued] | None:
    """The jobs whose runs were submitted with :func:`announce` in ``folder``, by run directory.

    Returns:
        None where the queue cannot be asked now: that shows nothing about the jobs.
    """
    output = _ask(["squeue", "--me", "--array", "--noheader", "--format=%F|%K|%T|%j|%R"])
    if output is None:
        return None
    found, known = {}, {}
    for line in output.splitlines():
        array, index, state, name, why = line.split("|", 4)
        key = name.rpartition("-")[2]
        if key not in known:
            known[key] = announced(folder, key)
        number = int(index) if index.isdigit() else 0
        if number < len(known[key]):
            found[known[key][number]] = Queued(f"{array}_{index}" if index.isdigit() else array, state, why)
    return found


def announce(folder: Path, key: str, runs: list[Path]) -> None:
    """Write down which runs the jobs named ``…-key`` do, before they are submitted: a driver may die at any moment."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{key}.json", [str(run.absolute()) for run in runs])


def announced(folder: Path, key: str) -> list[Path]:
    """The runs of a submission, by their place in its array; none where it is not one of ours."""
    if not re.fullmatch("[0-9a-f]{8}", key):
        return []
    try:
        return [Path(run) for run in json.loads((folder / f"{key}.json").read_text())]
    except (OSError, ValueError, TypeError):
        return []


def ending(job: str) -> str:
    """The end of a job that left the queue, such as ``OUT_OF_MEMORY on n1``; "" where SLURM has no record."""
    output = _ask(
        ["sacct", "--noheader", "--parsable2", "--allocations", "--format=State,ExitCode,NodeList", "-j", job]
    )
    lines = (output or "").strip().splitlines()
    if not lines:
        return ""
    state, code, nodes = lines[-1].split("|")
    status, _, by = code.partition(":")
    how = f", signal {by}" if by not in ("", "0") else f", exit code {status}" if status not in ("", "0") else ""
    return f"{state}{how} on {nodes}"


def displaced(job: str) -> bool:
    """Whether a job that is asked to leave only loses its place: to another job, or because its walltime is over.

    A job is RUNNING as long as it is warned; one whose walltime is over is COMPLETING like one that was cancelled.
    """
    state, _, why = (_ask(["squeue", "--noheader", "--format=%T|%r", "--jobs", job]) or "").strip().partition("|")
    return state == "RUNNING" or (state == "COMPLETING" and why == "TimeLimit")


def check() -> None:
    """Refuse a machine without SLURM, or one whose controller does not answer.

    Raises:
        UserError: so it is.
    """
    try:
        done = subprocess.run(["squeue", "--me", "--noheader"], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise UserError("cluster=slurm: this machine has no `squeue`; run the command on a login node") from None
    except subprocess.TimeoutExpired:
        raise UserError("cluster=slurm: SLURM's controller does not answer; try `sinfo`") from None
    if done.returncode:
        raise UserError(f"cluster=slurm: {' '.join(done.stderr.split())}")


def _ask(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
