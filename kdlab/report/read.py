"""Run directories to records: what ran, how it ended and what it measured. Reads only; starts and loads nothing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdlab.report.parse import UnreadableError, number, parse_history, parse_json, parse_yaml, text_of
from kdlab.text import one_line

STATES = ("finished", "running", "interrupted", "failed", "unreadable")
PLANS = ".sweeps"  # beside a command's runs: what the sweeps that go on now will do, by kdlab.launcher.plan
MARKS = ("config.yaml", "done.json", "failed.json", ".lock", "metrics.json", "history.csv", "environment.json")


@dataclass(frozen=True)
class Record:
    """One run directory.

    Attributes:
        state: one of STATES; interrupted means neither finished nor failed, and no process holds its lock.
        reason: why it is not finished, or what could not be read; "" where there is no reason.
        config, choice: the resolved config, and the names of its selected options.
        metrics: finite numbers by name; history: columns of the log, None where a step did not log that name.
        done: done.json; test: test.json, which identifies its test rows; teacher: the id of its teacher, or "".
        group: the comparison it belongs to; sweeps: multiruns that it was a job of, the last first; job: its number.
        host: the machine it ran on; device: the name of its GPU, or "".
        started: ISO 8601, or ""; seconds: how long it ran, None where that is not known.
    """

    id: str
    folder: Path
    command: str
    state: str
    reason: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[float | None]] = field(default_factory=dict)
    done: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)
    teacher: str = ""
    host: str = ""
    device: str = ""
    group: str = ""
    sweeps: tuple[str, ...] = ()
    job: int | None = None
    started: str = ""
    seconds: float | None = None

    @property
    def choice(self) -> dict[str, str]:
        chosen = self.config.get("choice")
        return {key: str(value) for key, value in chosen.items()} if isinstance(chosen, dict) else {}

    @property
    def seed(self) -> int | None:
        seed = self.config.get("seed")
        return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def records(outputs: str | Path) -> list[Record]:
    """Every run under ``outputs/<command>/<id>/``, by command and id. A folder that is not there holds no runs."""
    found = []
    for command in _folders(Path(outputs)):
        found += [record(folder) for folder in _folders(command) if any((folder / mark).exists() for mark in MARKS)]
    return found


def record(folder: Path) -> Record:
    """One run directory. Never raises for its content: what cannot be read makes the state "unreadable"."""
    trouble: list[str] = []

    def read(name: str, parse: Callable[[str, str], Any], empty: Any) -> Any:
        try:
            text = text_of(folder / name)
            return empty if text is None else parse(text, name)
        except UnreadableError as error:
            trouble.append(str(error))
            return empty

    done = read("done.json", parse_json, {})
    failed = read("failed.json", parse_json, {})
    config = read("config.yaml", lambda text, name: parse_yaml(text, name, dict), {})
    overrides = read("overrides.yaml", lambda text, name: parse_yaml(text, name, list), [])
    environment = read("environment.json", parse_json, {})
    test = read("test.json", parse_json, {})
    teacher = read("teacher.json", parse_json, {})
    sweep = read("sweep.json", parse_json, {})
    metrics = {name: number(value) for name, value in read("metrics.json", parse_json, {}).items()}
    history = read("history.csv", parse_history, {})

    state, reason = _state(folder, done, failed)
    if state == "finished" and not config:
        trouble.append("config.yaml is missing or empty")
    job = number(sweep.get("job"))
    started = environment.get("started")
    started = started if isinstance(started, str) else ""
    return Record(
        id=one_line(folder.name),
        folder=folder,
        command=one_line(folder.parent.name),
        state="unreadable" if trouble else state,
        reason="; ".join(trouble) or reason,
        config=config,
        overrides=[str(override) for override in overrides],
        metrics={name: value for name, value in metrics.items() if value is not None},
        history=history,
        done=done,
        test=test,
        teacher=str(teacher.get("id") or ""),
        host=str(environment.get("host") or ""),
        device=str(environment.get("gpu") or ""),
        group=str(sweep.get("group") or config.get("group") or ""),
        sweeps=sweeps_of(sweep),
        job=None if job is None else int(job),
        started=started,
        seconds=_seconds(state, done, failed, started),
    )


def sweeps_of(recorded: dict[str, Any]) -> tuple[str, ...]:
    """The names of the sweeps in a ``sweep.json``, the last first."""
    several = recorded.get("sweeps")
    names = [recorded.get("sweep"), *(several if isinstance(several, list) else [])]
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str) and name))


def held(lock: Path) -> bool:
    """Whether another process holds the lock of a run. It is asked for, shared, and given back at once."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _state(folder: Path, done: dict, failed: dict) -> tuple[str, str]:
    if done.get("state") == "finished":  # its lock is not tried: a reader must not delay a writer
        return "finished", ""
    if held(folder / ".lock"):
        return "running", ""
    if failed or (folder / "failed.json").exists():
        return "failed", one_line(f"{failed.get('type') or 'error'}: {failed.get('error') or 'no reason was written'}")
    if done:
        return "failed", one_line(f"the state in done.json is {done.get('state')!r}")
    return "interrupted", "The process ended without a result (killed or interrupted). Run the same command to resume."


def _seconds(state: str, done: dict, failed: dict, started: str) -> float | None:
    if state == "finished":
        return number(done.get("seconds"))
    end = datetime.now(UTC) if state == "running" else _time(failed.get("failed_at"))
    begin = _time(started)
    return max(0.0, (end - begin).total_seconds()) if begin and end else None


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=time.tzinfo or UTC) if time else None


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return []
