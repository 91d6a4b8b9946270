"""Files that are whole or absent, their checksums, and locks that die with their holder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from kdlab.error import UserError
from kdlab.terminal import note

LARGEST = 64 * 2**20  # bytes of a file that is read whole
DEEPEST = 40  # levels of lists and mappings
LONGEST = 100_000  # nodes of a YAML file


def write_text(path: Path, text: str) -> None:
    """Write atomically: the file is whole, or as it was."""
    part = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")  # nodes share the folder
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path, remedy: str, kind: type = object) -> Any:
    """What a small file holds.

    Args:
        remedy: what to do where it is damaged.
        kind: dict or list, where it must be one.

    Raises:
        UserError: it is not there, or no such JSON.
    """
    try:
        value = json.loads(text_inside(path))
        if not isinstance(value, kind):
            raise ValueError(f"it is no {'mapping' if kind is dict else 'list'}")
        return value
    except (OSError, ValueError, RecursionError) as problem:
        raise UserError(f"{path} is damaged or missing ({problem}); {remedy}") from problem


def text_inside(path: Path) -> str:
    """The text of a small file of a folder that someone else may have filled.

    Raises:
        OSError: it is not there.
        ValueError: it is no text, too large, no ordinary file, or a link that leads out of its folder.
    """
    if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
        raise ValueError("it is a link that leads out of its folder")
    if path.exists() and not path.is_file():
        raise ValueError("it is no ordinary file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST // 2**20} MiB")
    return path.read_text("utf-8")


def check_yaml(text: str) -> None:
    """Look at YAML before it is loaded; what no writer here makes could otherwise fill the memory.

    Raises:
        ValueError: aliases, which multiply; too deep, or too long.
        yaml.YAMLError: no YAML.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has YAML aliases")
        if depth > DEEPEST or count > LONGEST:
            raise ValueError("it is nested too deep or too long")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock(path: Path, what: str, shared: bool = False, wait: bool = True) -> Iterator[bool]:
    """Hold a file lock, which ends with the process that holds it however that dies.

    It is a ``flock``. Between nodes it holds where their shared file system passes it on: NFS 4, NFS 3 with its lock
    service, Lustre mounted with ``flock``, GPFS, BeeGFS with its tuning option; not NFS mounted ``nolock`` or
    ``local_lock=flock``. A node that dies gives its locks back when the server's lease ends.

    Args:
        what: it is of, for whoever has to wait.
        shared: let others hold it who also share it.
        wait: for who holds it; False: yield False then.
    """
    if path.is_symlink():  # locking writes, which would be into whatever the link names
        raise UserError(f"{path} is a link, which no lock is: somebody put it there; delete it")
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("a+") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            file.seek(0)
            note(f"waiting for {what} ({file.read().strip() or 'another process'} is working on it)")
            with _bell(path).open("a") as bell:  # held as long as this process waits
                fcntl.flock(bell, fcntl.LOCK_SH)
                fcntl.flock(file, kind)
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield True


def wanted(path: Path) -> bool:
    """Whether somebody waits for a :func:`lock` that is held."""
    try:
        with _bell(path).open("r+") as bell:  # NFS locks only what may be written
            fcntl.flock(bell, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _bell(path: Path) -> Path:
    return path.with_name(f"{path.name}.wanted")
