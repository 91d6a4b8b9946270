"""The output of a local sweep's driver while its jobs run: one line drawn anew, or one for each job's end."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus

from kdlab import terminal
from kdlab.artifact.run import read_done
from kdlab.config.direction import higher_is_better
from kdlab.direction import gathered
from kdlab.terminal import announce, clock
from kdlab.text import one_line

EVERY = 1.0  # seconds between two drawings while nothing happens


@dataclass
class Running:
    """A job that has begun.

    Attributes:
        folder: of its run, once that is known.
        since: the clock when it was granted a slot; None: it waits for one.
    """

    number: int
    words: str
    folder: Path | None = None
    since: float | None = None


@dataclass
class Status:
    """Counts the jobs of a sweep, and estimates when they end.

    Args:
        total: jobs of the sweep.
        slots: number of jobs that run side by side.
        shared: overrides that all jobs have, which set none apart.

    Attributes:
        kept: jobs whose run had finished before; they say nothing of how long the others take.
    """

    total: int
    slots: int
    shared: frozenset[str] = frozenset()
    running: dict[int, Running] = field(default_factory=dict)
    done: int = 0
    failed: int = 0
    kept: int = 0
    took: list[float] = field(default_factory=list)
    best: tuple[float, str] | None = None
    notes: set[str] = field(default_factory=set)
    line: terminal.Line = field(default_factory=terminal.Line)

    def begin(self, number: int, words: Sequence[str]) -> None:
        """A job has begun, perhaps before it has a slot."""
        own = ", ".join(word for word in words if word not in self.shared)
        self.running[number] = Running(number, one_line(own))

    def grant(self, number: int) -> None:
        """A job was granted a slot."""
        if number in self.running and self.running[number].since is None:
            self.running[number].since = time.perf_counter()

    def receive(self, number: int, kind: str, text: str) -> None:
        """Handle a message of a job: the run that it carries out, or a note; equal notes are printed once."""
        if kind == "run" and number in self.running:
            self.running[number].folder = Path(text)
        elif kind == "note" and text not in self.notes:
            self.notes.add(text)
            announce(text)
        self.draw()

    def end(self, number: int, result: JobReturn) -> None:
        """A job has ended."""
        job = self.running.pop(number, Running(number, ""))
        self.done += 1
        spent = 0.0 if job.since is None else time.perf_counter() - job.since
        if _finished_before(job.folder, spent):
            self.kept += 1
        elif job.since is not None:
            self.took.append(spent)
        if result.status is not JobStatus.COMPLETED:
            self.failed += 1
            announce(f"job {number} ({job.words}) failed: {one_line(result._return_value)}")
        elif (done := read_done(folder) if (folder := job.folder) is not None else None) and done["value"] is not None:
            metric, value = str(done["metric"]), float(done["value"])
            sign = -1 if higher_is_better(metric, gathered([done])) is False else 1
            if self.best is None or sign * value > sign * self.best[0]:
                self.best = value, f"best {one_line(metric, 40)} {value:.3f}" + (f": {job.words}" if job.words else "")
        if not self.line.draws:
            announce(self.text())
        if self.kept == self.total:
            announce(f"all {self.total} runs had already finished. Use rerun=true to train them again.")
        self.draw()

    def draw(self) -> None:
        """Draw the line anew, where there is a terminal."""
        self.line.show(self.text())

    def close(self) -> None:
        self.line.wipe()

    def text(self) -> str:
        """The line."""
        working = [job for job in self.running.values() if job.since is not None]
        kept = f" ({self.kept} before)" if self.kept else ""
        parts = [f"{self.done} of {self.total} done{kept}", f"{len(working)} running", f"{self.failed} failed"]
        left = self.left(time.perf_counter())
        parts += [f"{clock(left)} left"] if left is not None else []
        return ", ".join(parts) + (f"; {self.best[1]}" if self.best else "")

    def left(self, now: float) -> float | None:
        """Seconds until the last job ends, at the pace of those that ended and run.

        None: no estimate, also where all that runs takes longer than expected.
        """
        working = [job for job in self.running.values() if job.since is not None]
        spent = [now - job.since for job in working if job.since is not None]
        known = [_left(job.folder) for job in working]
        whole = [one + more for one, more in zip(spent, known, strict=True) if more is not None]
        if not (self.took or whole):
            return None
        each = sum(self.took or whole) / len(self.took or whole)
        ahead = [max(each - one, 0.0) if more is None else more for one, more in zip(spent, known, strict=True)]
        waiting = self.total - self.done - len(working)
        found = max(max(ahead, default=0.0), (sum(ahead) + waiting * each) / self.slots)
        return found if round(found) else None


def _finished_before(folder: Path | None, seconds: float) -> bool:
    """Whether a run had finished before a job began, these seconds ago."""
    path = None if folder is None else folder / "done.json"
    return path is not None and path.exists() and path.stat().st_mtime < time.time() - seconds


def _left(folder: Path | None) -> float | None:
    """Seconds that a run has left by its own progress file, counted from when it was written."""
    if folder is None:
        return None
    path = folder / "progress.json"
    try:
        left = json.loads(path.read_text("utf-8"))["left"]
        return max(float(left) - (time.time() - path.stat().st_mtime), 0.0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
