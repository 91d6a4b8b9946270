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

from kdlab.error import UserError


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


def read_json(path: Path, remedy: str) -> Any:
    """What a small file holds.

    Args:
        remedy: what to do where it is damaged.

    Raises:
        UserError: it is not there, or no JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise UserError(f"{path} is damaged or missing ({problem}); {remedy}") from problem


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold a file lock, which ends with the process that holds it however that dies.

    It is a ``flock``. Between nodes it holds where their shared file system passes it on: NFS 4, NFS 3 with its lock
    service, Lustre mounted with ``flock``, GPFS, BeeGFS with its tuning option; not NFS mounted ``nolock`` or
    ``local_lock=flock``. A node that dies gives its locks back when the server's lease ends.
    """
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
