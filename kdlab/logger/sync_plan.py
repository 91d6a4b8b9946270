"""The runs that have to arrive at a W&B server, with all their logs, and whether all files that they name exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from kdlab.logger.server import Status
from kdlab.logger.wandb import STEP
from kdlab.logger.wandb_log import Log, logs, read


@dataclass(frozen=True)
class LogPart:
    """One log: a run has one for each time that it was begun or gone on with.

    Attributes:
        rows: of its history; steps: the optimizer steps that they cover; runtime: how long it went, in seconds.
        faults: parts of it that a server would not get, one sentence each.
        dangers: why it must not be sent at all, one sentence each.
    """

    path: Path
    started: float
    rows: int
    steps: frozenset[int]
    runtime: float
    faults: tuple[str, ...]
    dangers: tuple[str, ...]


@dataclass(frozen=True)
class SyncPlan:
    """A run.

    Attributes:
        entity: the team or user; "" is the key's own.
        parts: by when they were begun.
        summary: names; digests: of the artifacts that it made or read.
        faults: parts that a server would not get; empty: all that was logged can be sent.
        entities: all teams and users that its logs name.
        dangers: why it must not be sent at all: it would send what is no part of a run.
    """

    id: str
    project: str
    entity: str
    group: str
    command: str
    parts: tuple[LogPart, ...]
    summary: frozenset[str]
    digests: frozenset[str]
    faults: tuple[str, ...]
    entities: frozenset[str]
    dangers: tuple[str, ...]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def lacks(self, there: Status) -> str:
        """The part that a server lacks, in words; "" where it has everything."""
        if not there.known:
            return "the run is not there"
        missing = []
        if there.rows < self.rows:
            missing.append(f"{self.rows - there.rows} of {self.rows} rows")
        if lost := sorted(self.summary - there.summary):
            missing.append(f"{', '.join(lost[:3])} of the summary")
        if artifacts := self.digests - there.digests:
            missing.append(f"{len(artifacts)} of {len(self.digests)} artifacts")
        return " and ".join(missing) + (" did not arrive" if missing else "")


def sync_plans(outputs: Path, steps: Mapping[str, Set[int]]) -> list[SyncPlan]:
    """Every run that has a log under ``<outputs>/wandb``, by id.

    Args:
        steps: run id -> the steps that its history.csv has rows of, which the logs must have as well.
    """
    found: dict[tuple[str, str], list[tuple[LogPart, Log]]] = {}
    for folder in sorted((Path(outputs) / "wandb").glob("*run-*-*")):
        for path in logs(folder):
            log = read(path)
            if log.run.get("id"):  # else a start that failed, before there was a run
                found.setdefault((log.run["id"], log.run["project"]), []).append((_part(log, Path(outputs)), log))
            log.history.clear()  # those of a whole sweep would fill the memory
    return [_sync_plan(run, project, pairs, steps.get(run)) for (run, project), pairs in sorted(found.items())]


def _part(log: Log, outputs: Path) -> LogPart:
    gone = [file for file in log.staged if not file.exists()]
    changed = [file for file, size in log.sizes.items() if file.exists() and file.stat().st_size != size]
    faults = []
    for files, what in ((gone, "gone"), (changed, "of another size than when they were logged")):
        if files:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            faults.append(f"files that {log.path.parent.name} names are {what}: {files[0]}{more}")
    numbers = (row.get(STEP) for row in log.history)
    steps = frozenset(int(number) for number in numbers if isinstance(number, (int, float)))
    clocks = [row["_runtime"] for row in log.history if isinstance(row.get("_runtime"), (int, float))]
    return LogPart(
        log.path,
        log.run["started"],
        len(log.history),
        steps,
        max(clocks, default=0.0),
        tuple(faults),
        _dangers(log, outputs),
    )


def _dangers(log: Log, outputs: Path) -> tuple[str, ...]:
    """The reasons why a log must not be sent: files outside ``outputs``, or records that make W&B read other files."""
    root, name = outputs.resolve(), log.path.parent.name
    inside = log.path.parent / "files"
    files = [*log.uploads, *(path for path in inside.rglob("*") if path.is_symlink() or not path.is_dir())]
    found = []
    for path in [log.path, inside, *files]:
        if not path.resolve().is_relative_to(root):
            found.append(f"{name} would send {path}, which is not in {outputs}: a run's own files are; delete the log")
        elif path.exists() and not path.is_file() and path != inside:
            found.append(f"{name} would send {path}, which is no ordinary file; delete the log")
    for kind in sorted(log.foreign):
        found.append(f"{name} has a record '{kind}', which no run of kdlab has; delete the log")
    return tuple(found[:3])


def _sync_plan(run: str, project: str, pairs: Iterable[tuple[LogPart, Log]], steps: Set[int] | None) -> SyncPlan:
    pairs = sorted(pairs, key=lambda pair: (pair[0].started, pair[0].path.parent.name))
    last = pairs[-1][1]
    faults = [fault for part, _ in pairs for fault in part.faults]
    lost = (steps or set()) - frozenset().union(*(part.steps for part, _ in pairs))
    if lost:
        faults.append(f"{len(lost)} of {len(steps or ())} steps in history.csv are in none of its W&B logs")
    if steps is None:  # nothing to compare with, so a damaged log counts; one that a kill cut short has all but its end
        faults += [
            f"{log.path} is damaged: {fault}" for _, log in pairs for fault in log.problems if "cut off" not in fault
        ]
    return SyncPlan(
        id=run,
        project=project or "",
        entity=next((log.run["entity"] for _, log in pairs if log.run["entity"]), ""),
        group=last.run["group"],
        command=last.run["job_type"],
        parts=tuple(part for part, _ in pairs),
        summary=frozenset(name for _, log in pairs for name in log.summary if not name.startswith("_")),
        digests=frozenset(made["digest"] for _, log in pairs for made in log.artifacts.values()),
        faults=tuple(faults),
        entities=frozenset().union(*(log.entities for _, log in pairs)),
        dangers=tuple(danger for part, _ in pairs for danger in part.dangers),
    )
