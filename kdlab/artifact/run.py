"""A run: its directory, its lock, and when it is done.

The same command finds the same directory (see :mod:`kdlab.config.identity`): a finished run is not run again, an
unfinished one goes on.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kdlab.config.stored import write
from kdlab.direction import RECORD, Directions
from kdlab.error import UserError
from kdlab.file import lock, now, read_json, refuse_links, sync, wanted, write_json
from kdlab.secret import masked

OLD = 3600.0  # seconds, after which a half written file of another node counts as left behind
MOST_SWEEPS = 100  # of which a run remembers that it was a job
_held: list[Path] = []  # the locks of the runs that this process owns


@dataclass(frozen=True)
class Run:
    """A run directory that this process may write; made by :func:`claim`."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def done(self) -> dict[str, Any] | None:
        """The content of ``done.json``, or None while the run is not finished."""
        return read_done(self.folder)

    @property
    def last_checkpoint(self) -> Path | None:
        path = self.folder / "checkpoints" / "last.ckpt"
        return path if path.exists() else None

    def begin(self, config: Mapping[str, Any], overrides: list[str], sweep: Mapping[str, Any] | None = None) -> None:
        """Write down what the run is, before it does anything."""
        (self.folder / "failed.json").unlink(missing_ok=True)
        write(self.folder / "config.yaml", masked(dict(config)))
        write(self.folder / "overrides.yaml", masked(overrides))
        write_json(self.folder / "environment.json", environment() | {"seed": config.get("seed")})
        if sweep:
            enroll(self.folder, sweep)

    def note(self, **known: Any) -> None:
        """Add what became known of the machine to ``environment.json``, such as ``gpu``, its name."""
        path = self.folder / "environment.json"
        write_json(path, read_json(path, "rerun=true begins the run again", dict) | known)

    def finish(
        self,
        value: float | None,
        metric: str,
        seconds: float,
        metrics: Mapping[str, float],
        directions: Directions,
        named: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """``metrics.json``, then ``done.json``: last and atomically, so that it exists only where all else does.

        Args:
            value, metric: the primary metric, which chose the weights.
            directions: whether more is better, by metric, see :mod:`kdlab.direction`.
            named: metrics by what the evaluators declare of them, see :attr:`kdlab.metric.evaluators.Evaluators.named`.
        """
        finite = {name: float(number) for name, number in sorted(metrics.items()) if _finite(number)}
        write_json(self.folder / "metrics.json", finite)
        for place in (self.folder, *(path for path in self.folder.iterdir() if path.is_dir())):
            sync(place)  # the names of all files that done.json vouches for
        done: dict[str, Any] = {"state": "finished", "value": value, "metric": metric, "seconds": round(seconds, 3)}
        done |= {RECORD: dict(sorted(directions.items())), **named, "finished_at": now()}
        write_json(self.folder / "done.json", done)
        sync(self.folder)

    def fail(self, error: BaseException) -> None:
        """Write the reason into the file that readers of the directory look for."""
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        write_json(self.folder / "failed.json", {"error": reason, "type": type(error).__name__, "failed_at": now()})

    def clear(self) -> None:
        """Empty the directory, so that the run starts afresh."""
        for path in self.folder.iterdir():
            if path.name in (".lock", ".lock.wanted", "run.log"):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def enroll(folder: Path, sweep: Mapping[str, Any]) -> None:
    """Note of which sweep a run is a job now, beside the names of those that it was a job of before.

    Args:
        sweep: its name as ``sweep``, and what else is to be known of the job.
    """
    before: dict[str, Any] = {}
    with suppress(UserError):
        before = read_json(folder / "sweep.json", "", dict)
    known = before.get("sweeps")
    names = [sweep.get("sweep"), *(known if isinstance(known, list) else []), before.get("sweep")]
    names = list(dict.fromkeys(name for name in names if isinstance(name, str) and name))
    write_json(folder / "sweep.json", masked(dict(sweep)) | {"sweeps": names[:MOST_SWEEPS]})


@contextmanager
def claim(folder: Path | str, rerun: bool = False) -> Iterator[Run]:
    """Own a run directory: waits while another process writes it, and notes a failure in it.

    Args:
        folder: ``outputs/<command>/<id>``; made where missing.
        rerun: start afresh even where the run is finished.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links(folder)
    for parent in list(folder.absolute().parents)[:3]:  # that of the command, outputs, and where outputs is
        with suppress(PermissionError):
            sync(parent)
    with lock(folder / ".lock", f"run {folder.name}"):
        _held.append(folder / ".lock")
        run = Run(folder)
        try:
            sweep_up(folder)
            if rerun:
                run.clear()
            yield run
        except Exception as error:
            if run.done is None:
                with suppress(OSError):
                    run.fail(error)
            raise
        finally:
            _held.pop()


def sweep_up(folder: Path) -> None:
    """Remove half written models, checkpoints and files, which killed processes left in a locked run directory."""
    for path in [*folder.glob(".model.*"), *folder.glob("[!.]*.part"), *folder.glob("*/*.part")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in folder.glob(".*.part"):  # others write some files without the lock
        with suppress(FileNotFoundError):
            if _given_up(path):
                path.unlink()


def _given_up(part: Path) -> bool:
    """Whether no process writes a file any more: its writer on this machine is gone, or it is old and from another."""
    host, _, process = part.name.removesuffix(".part").rpartition(".")
    if host.endswith(f".{socket.gethostname()}") and process.isdigit():
        return not _alive(int(process), part.stat().st_mtime)
    return time.time() - part.stat().st_mtime > OLD


def _alive(process: int, moment: float) -> bool:
    """Whether a process that was there at a moment still is; the number may be another one's by now (Linux).

    Args:
        moment: in Unix seconds.
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return False
    state, ticks = stat[0], int(stat[19])
    began = time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
    return state not in "ZX" and began < moment + 1  # a process that ended may still be listed; clocks are coarse


def awaited() -> bool:
    """Whether another process waits for a run that this one owns."""
    return any(wanted(path) for path in _held)


def read_done(folder: Path) -> dict[str, Any] | None:
    """``done.json`` of a run directory, or None where the run is not finished."""
    path = folder / "done.json"
    if not path.exists():
        return None
    done = read_json(path, remedy := "delete it, and the same command goes on to the end")
    result = isinstance(done, dict) and isinstance(done.get("metric"), str)
    if not result or not isinstance(done.get("value", ""), int | float | None):
        raise UserError(f"{path} is damaged (it holds no result); {remedy}")
    return done


def _finite(number: Any) -> bool:
    return isinstance(number, (int, float)) and number == number and abs(number) != float("inf")


def environment() -> dict[str, Any]:
    """The environment of a run: versions, commit, machine."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("kdlab", "torch", "lightning", "hydra-core", "transformers", "wandb", "torchmetrics"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "versions": versions,
        "python": platform.python_version(),
        "git": _git(),
        "host": socket.gethostname(),
        "cpu_count": os.cpu_count(),
        "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "pid": os.getpid(),
        "command": masked(sys.argv),
        "started": now(),
        "started_unix": time.time(),
    }


@lru_cache
def _git() -> dict[str, Any] | None:
    """The commit of the working directory, and whether files differ from it: changed since it, or not tracked.

    The repository may be somebody else's, and its config must run nothing: monitors, hooks and filters are off.
    """
    off = {"core.fsmonitor": "false", "core.hooksPath": os.devnull}
    variables = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}

    def ask(*arguments: str) -> str | None:
        settings = {"GIT_CONFIG_COUNT": str(len(off))}
        for number, (name, value) in enumerate(off.items()):
            settings |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        try:
            done = subprocess.run(
                ["git", *arguments], capture_output=True, text=True, timeout=5, check=True,
                env=os.environ | variables | settings,
            )  # fmt: skip
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    sha = ask("rev-parse", "HEAD")
    if sha is None:
        return None
    filters = ask("config", "--null", "--name-only", "--get-regexp", r"^filter\..*\.(clean|process)$") or ""
    off |= dict.fromkeys(filter(None, filters.split("\0")), "")
    changed = ask("diff-index", "--ignore-submodules=all", "--no-ext-diff", "HEAD")
    return {"sha": sha, "dirty": bool(changed) or bool(ask("ls-files", "--others", "--exclude-standard"))}
