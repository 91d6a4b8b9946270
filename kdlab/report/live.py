"""The state of a sweep's jobs: running, waiting, ended. It only reads, and asks SLURM for its queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from kdlab.queue import pending
from kdlab.report.parse import UnreadableError, number, parse_json, text_of
from kdlab.report.pick import named
from kdlab.report.read import MARKS, PLANS, Record, held, record
from kdlab.text import one_line

ORDER = ("running", "failed", "unreadable", "interrupted", "queued", "finished")
OPEN = ("running", "queued")
ENDED = ("finished", "failed")
EVIDENCE = ("done.json", "failed.json", "sweep.json", "config.yaml", ".lock")


@dataclass(frozen=True)
class Row:
    """A run, or a job that waits to become one.

    Attributes:
        state: one of ORDER.
        part: share of the training that is done, in [0, 1]; None: not known.
        left: seconds left of the training; None where that is not known.
        took: seconds from begin to end; None where it has not ended.
        note: its progress, its result, or the reason of its failure.
    """

    name: str
    state: str
    part: float | None = None
    left: float | None = None
    took: float | None = None
    note: str = ""


class Sight:
    """Looks at the runs under a folder again and again; what has ended is read once.

    Args:
        names: as :func:`kdlab.report.pick.select` takes them.
    """

    def __init__(self, outputs: Path, names: str | Sequence[str] | None = None) -> None:
        self.outputs = outputs
        self.names = None if names is None else [names] if isinstance(names, str) else list(names)
        self._known: dict[Path, tuple[tuple, Record, str]] = {}

    def look(self) -> list[Row]:
        """Every chosen run and every job that waits: what runs first, what is finished last."""
        rows: list[Row] = []
        for command in _folders(self.outputs):
            found = [self._read(folder) for folder in _folders(command) if any((folder / m).exists() for m in MARKS)]
            waiting = pending(command / ".submitit") if (command / ".submitit").is_dir() else {}
            asked = {folder.resolve(): job for folder, job in (waiting or {}).items()}
            for one, _ in found:
                job = asked.pop(one.folder.resolve(), None)
                if self._chosen(one):
                    wait = job is not None and job.state == "PENDING" and one.state not in ("running", "finished")
                    rows.append(Row(one.id, "queued", note=one_line(job.why)) if job and wait else _row(one))
            rows += [
                Row(folder.name, "queued", note=one_line(job.why))
                for folder, job in asked.items()
                if self.names is None or any(fnmatchcase(folder.name, name) for name in self.names)
            ]
            rows += self._planned(command, found)
        return sorted(rows, key=lambda row: ORDER.index(row.state))

    def _read(self, folder: Path) -> tuple[Record, str]:
        """A run and the name of the sweep that it belongs to now."""
        stamp = tuple(_stamp(folder / name) for name in EVIDENCE)
        known = self._known.get(folder)
        if known is None or known[0] != stamp or known[1].state not in ENDED or held(folder / ".lock"):
            one = record(folder)
            if one.state in ENDED:
                one = replace(one, history={})
            known = self._known[folder] = stamp, one, str(_json(folder / "sweep.json").get("sweep") or "")
        return known[1], known[2]

    def _chosen(self, one: Record) -> bool:
        return self.names is None or any(named(one, name) or one.id.endswith(name) for name in self.names)

    def _planned(self, command: Path, found: Iterable[tuple[Record, str]]) -> list[Row]:
        """The jobs of sweeps whose driver lives that have not begun."""
        if (command / ".submitit").is_dir():  # they are in SLURM's queue, or their runs were finished
            return []
        rows = []
        for path in sorted((command / PLANS).glob("*.json")):
            plan = _json(path)
            group, jobs, count = str(plan.get("group")), plan.get("jobs"), number(plan.get("count")) or 0
            if not held(path) or not (self.names is None or any(fnmatchcase(group, name) for name in self.names)):
                continue
            begun = {one.job for one, sweep in found if sweep == plan.get("sweep")}
            if isinstance(jobs, list) and jobs:
                rows += [Row(one_line(words) or group, "queued") for job, words in enumerate(jobs) if job not in begun]
            elif count > len(begun):
                rows.append(Row(f"{group}: {int(count) - len(begun)} more", "queued"))
        return rows


def _row(one: Record) -> Row:
    if one.state == "finished":
        value, metric = number(one.done.get("value")), one.done.get("metric")
        return Row(
            one.id, "finished", 1.0, None, one.seconds, "" if value is None else f"{metric or 'value'} {value:.4g}"
        )
    if one.state != "running":
        return Row(one.id, one.state, None, None, one.seconds, one.reason)
    known: Mapping = _json(one.folder / "progress.json")
    step, steps, epoch, epochs, left = (number(known.get(k)) for k in ("step", "steps", "epoch", "epochs", "left"))
    if step is None:
        last = [value for value in one.history.get("step", []) if value is not None]
        return Row(one.id, "running", note=f"step {last[-1]:.0f}" if last else "begins")
    note = f"step {step:.0f}" + (f"/{steps:.0f}" if steps else "")
    if epoch is not None and epochs:
        note += f"  epoch {min(epoch + 1, epochs):.0f}/{epochs:.0f}"
    if steps and step >= steps:
        note = "tests"
    return Row(one.id, "running", min(step / steps, 1.0) if steps else None, left, None, note)


def ahead(rows: Sequence[Row]) -> float | None:
    """Seconds until all have ended, at the pace of those that run and have ended; None where it cannot be estimated."""
    running = [row for row in rows if row.state == "running"]
    queued = sum(row.state == "queued" for row in rows)
    if not running or any(row.left is None and row.note != "tests" for row in running):
        return None
    longest = max(row.left or 0.0 for row in running)
    took = [row.took for row in rows if row.state == "finished" and row.took]
    if not queued:
        return longest
    return longest + queued / len(running) * sum(took) / len(took) if took else None


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """The number of jobs in each state, in the order of ORDER."""
    found = Counter(row.state for row in rows)
    return {state: found[state] for state in ORDER if found[state]}


def _json(path: Path) -> dict:
    try:
        text = text_of(path)
        return {} if text is None else parse_json(text, path.name)
    except UnreadableError:
        return {}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return []
