"""A run: its identity, its directory, its lock, and when it is done.

A run's id is a readable slug and a hash of its resolved config, without what cannot change the result. The same
command therefore finds the same directory: a finished run is not run again, an unfinished one goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
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
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdlab.error import UserError

NEUTRAL = frozenset({"hydra", "outputs", "rerun", "group", "logger", "cluster", "choice", "command"})
NEUTRAL_ANYWHERE = frozenset({"download", "progress", "lr_monitor", "every_n_steps", "log_every_n_steps", "profiler"})
CONTENT = frozenset({"path"})  # keys whose value, where it names a file or folder, stands for what is in it


# ---------------------------------------------------------------- identity
def identity(config: Mapping[str, Any]) -> str:
    """Eight hex digits that are equal exactly where the results must be equal."""
    kept = {key: _plain(value, key) for key, value in config.items() if key not in NEUTRAL}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v, str(k)) for k, v in value.items() if k not in NEUTRAL_ANYWHERE}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 2 and 2.0 are the same number
    if key in CONTENT and isinstance(value, str) and Path(value).exists():
        return _content(value)
    return value


def _content(path: str) -> str:
    files = [Path(path)] if Path(path).is_file() else sorted(p for p in Path(path).rglob("*") if p.is_file())
    stamp = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return _digest(stamp, path)


@lru_cache
def _digest(stamp: tuple[tuple[str, int, int], ...], root: str) -> str:
    digest = hashlib.sha256()
    for name, _, _ in stamp:
        digest.update(os.path.relpath(name, root).encode())
        digest.update(file_sha256(Path(name)).encode())
    return digest.hexdigest()


def slug(choices: Mapping[str, Any], seed: Any) -> str:
    """The readable half of an id, from the names of the selected options."""
    words = (choices.get(group) for group in ("datamodule", "model", "model@student", "loss", "freeze"))
    return "-".join([str(word) for word in words if word] + [f"s{seed}"])


def run_id(root: DictConfig) -> str:
    """The id of the run that a composed config describes; the resolver ``${run_id:}``."""
    plain = OmegaConf.masked_copy(root, [key for key in root if key != "hydra"])
    resolved = OmegaConf.to_container(plain, resolve=True)
    choices = root.hydra.runtime.choices if "hydra" in root else {}
    return f"{slug(choices, root.get('seed'))}-{identity(resolved)}"  # type: ignore[arg-type]


OmegaConf.register_new_resolver("run_id", lambda _root_: run_id(_root_), replace=True)


# ---------------------------------------------------------------- directory
@dataclass(frozen=True)
class Run:
    """A run directory that this process may write; made by :func:`claim`."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def done(self) -> dict[str, Any] | None:
        """What ``done.json`` holds, or None while the run is not finished."""
        return read_done(self.folder)

    @property
    def last_checkpoint(self) -> Path | None:
        path = self.folder / "checkpoints" / "last.ckpt"
        return path if path.exists() else None

    def begin(self, config: Mapping[str, Any], overrides: list[str], sweep: Mapping[str, Any] | None = None) -> None:
        """Write down what the run is, before it does anything."""
        (self.folder / "failed.json").unlink(missing_ok=True)
        write_text(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))
        write_text(self.folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))
        write_json(self.folder / "environment.json", environment() | {"seed": config.get("seed")})
        if sweep:
            write_json(self.folder / "sweep.json", sweep)

    def finish(self, value: float | None, metric: str, seconds: float, metrics: Mapping[str, float]) -> None:
        """``metrics.json``, then ``done.json``: last and atomically, so that it exists only where all else does."""
        finite = {name: float(number) for name, number in sorted(metrics.items()) if _finite(number)}
        write_json(self.folder / "metrics.json", finite)
        done = {"state": "finished", "value": value, "metric": metric, "seconds": round(seconds, 3)}
        write_json(self.folder / "done.json", done | {"finished_at": now()})

    def fail(self, error: BaseException) -> None:
        """Leave the reason where readers of the directory look for it."""
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        write_json(
            self.folder / "failed.json", {"error": reason, "type": type(error).__name__, "failed_at": now()}
        )

    def clear(self) -> None:
        """Empty the directory, so that the run starts afresh."""
        for path in self.folder.iterdir():
            if path.name in (".lock", "run.log"):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def claim(folder: Path | str, rerun: bool = False) -> Iterator[Run]:
    """Own a run directory: waits while another process writes it, and notes a failure in it.

    Args:
        folder: ``outputs/<command>/<id>``; made where missing.
        rerun: start afresh even where the run is finished.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock", f"run {folder.name}"):
        run = Run(folder)
        if rerun:
            run.clear()
        try:
            yield run
        except Exception as error:
            if run.done is None:
                with suppress(OSError):
                    run.fail(error)
            raise


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold a file lock, which ends with the process that holds it however that dies."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            print(f"waiting for {what}, which {file.read().strip() or 'another process'} is working on", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def read_done(folder: Path) -> dict[str, Any] | None:
    """``done.json`` of a run directory, or None where the run is not finished."""
    path = folder / "done.json"
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as problem:
        raise UserError(f"{path} is damaged ({problem}); delete it to run this run again") from problem


def read_config(folder: Path) -> DictConfig:
    """The resolved config of a run directory."""
    path = folder / "config.yaml"
    try:
        config = OmegaConf.load(path)
    except FileNotFoundError as problem:
        raise UserError(f"{folder} is no run directory: it has no config.yaml") from problem
    except Exception as problem:
        raise UserError(f"{path} cannot be read ({type(problem).__name__}); restore it or delete the run") from problem
    if not isinstance(config, DictConfig):
        raise UserError(f"{path} holds no config: a mapping was expected; restore it or delete the run")
    return config


# ---------------------------------------------------------------- small files
def write_text(path: Path, text: str) -> None:
    """Write atomically: the file is whole, or as it was."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _finite(number: Any) -> bool:
    return isinstance(number, (int, float)) and number == number and abs(number) != float("inf")


def environment() -> dict[str, Any]:
    """Where and with what a run is done: versions, commit, machine."""
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
        "pid": os.getpid(),
        "command": sys.argv,
        "started": now(),
        "started_unix": time.time(),
    }


@lru_cache
def _git() -> dict[str, Any] | None:
    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    sha = ask("rev-parse", "HEAD")
    return None if sha is None else {"sha": sha, "dirty": bool(ask("status", "--porcelain"))}
