"""The states of the runs of a comparison, and the jobs of its sweeps that left no run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdlab.report.read import Record


def counts(records: Sequence[Record]) -> dict[str, int]:
    """The number of runs in each state."""
    states = [record.state for record in records]
    return {state: states.count(state) for state in dict.fromkeys(states)}


def absent(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Jobs of a sweep, by their numbers, that left no run directory."""
    jobs: dict[tuple[str, str], set[int]] = {}
    for record in records:
        if record.group and record.job is not None and 0 <= record.job < 100_000:
            jobs.setdefault((record.command, record.group), set()).add(record.job)
    return [
        {"command": command, "group": group, "job": job}
        for (command, group), numbers in sorted(jobs.items())
        for job in range(max(numbers))
        if job not in numbers
    ]
