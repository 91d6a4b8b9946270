"""Files that are whole or absent, their checksums, and locks that die with their holder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO

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


def put(part: Path, path: Path) -> None:
    """Move a file or a folder, whose content is on the disk, into its place, and see that it stays there."""
    part.replace(path)
    sync(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those that it is in, and see that their names stay."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync(one.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as problem:
        if problem.errno != errno.EINVAL:  # a file system that syncs no folders
            raise
    finally:
        os.close(number)


def full(problem: Exception, path: Path) -> Exception:
    """The system's error behind a writer's error that hides it: mostly that a disk is full.

    Args:
        path: the file that was written.

    Returns:
        An OSError that names the path, or the problem itself where it is none of writing.
    """
    text = f"{problem} {problem.__cause__ or ''} {problem.__context__ or ''}"
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS):
        if f"os error {code})" in text or os.strerror(code) in text:
            return OSError(code, os.strerror(code), str(path))
    writing = ("PytorchStreamWriter", "unexpected pos", "enforce fail", "I/O error", "IoError")
    if any(word in text for word in writing):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return problem


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path, remedy: str, kind: type = object) -> Any:
    """The content of a small file.

    Args:
        remedy: advice where it is damaged.
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
def lock(path: Path, what: str, shared: bool = False, wait: bool = True, waits: str = "") -> Iterator[bool]:
    """Hold a file lock, which ends with the process that holds it however that dies.

    It is a ``flock``. Between nodes it holds where their shared file system passes it on: NFS 4, NFS 3 with its lock
    service, Lustre mounted with ``flock``, GPFS, BeeGFS with its tuning option; not NFS mounted ``nolock`` or
    ``local_lock=flock``. A node that dies gives its locks back when the server's lease ends.

    Args:
        what: it is of, for whoever has to wait.
        shared: let other sharers hold it too.
        wait: until it is free; False: yield False where it is not.
        waits: the line that is printed where it has to wait; "": one with what it is of and the process that has it.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with _own(path) as file:
        try:
            _flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            file.seek(0)
            note(waits or f"waiting for {what} ({file.read().strip() or 'another process'} is working on it)")
            with _own(_bell(path)) as bell:  # held as long as this process waits
                _flock(bell, fcntl.LOCK_SH)
                _flock(file, kind)
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield True


def _flock(file: TextIO, kind: int) -> None:
    """Lock a file.

    Raises:
        BlockingIOError: somebody else holds it, and ``kind`` does not wait.
        UserError: the file system has no locks.
    """
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        raise
    except OSError as problem:
        if problem.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        raise UserError(
            f"{file.name} is on a file system without locks ({problem.strerror}), such as NFS mounted nolock: mount it "
            "with locks, or set outputs=FOLDER (KDLAB_CACHE=FOLDER for the cache) to one that has them"
        ) from problem


def wanted(path: Path) -> bool:
    """Whether somebody waits for a :func:`lock` that is held."""
    try:
        with _own(_bell(path), create=False) as bell:  # NFS locks only what may be written
            fcntl.flock(bell, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _own(path: Path, create: bool = True) -> TextIO:
    """A file of kdlab's own, open to read and write: locking writes, which must not be into whatever a link names.

    Raises:
        UserError: a link, or no ordinary file.
        FileNotFoundError: it is not there, and ``create`` is False.
    """
    try:
        number = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if create else 0), 0o666)
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise UserError(f"{path} is a link, which no lock is: somebody put it there; delete it") from problem
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UserError(f"{path} is no ordinary file, as a lock is: somebody put it there; delete it")
    return os.fdopen(number, "r+", encoding="utf-8")


def refuse_links(folder: Path) -> None:
    """Refuse a run directory with links, through which writing would change other files, or with pipes or devices.

    Raises:
        UserError: a link in the folder, or in a folder of it, or what is no ordinary file.
    """
    for path in [*folder.glob("*"), *folder.glob("*/*")]:
        if not path.is_symlink() and not path.is_file() and not path.is_dir() and path.exists():
            raise UserError(f"{path} is no ordinary file, and a run directory has no other: delete it")
        if path.is_symlink():
            raise UserError(
                f"{path} is a link, and a run directory has none: writing would change {path.resolve()}; delete it"
            )


class OwnLog(logging.FileHandler):
    """A log file that is never a link to another file. See conf/base.yaml.

    Raises:
        UserError: it is one.
    """

    def _open(self) -> Any:
        number = None
        try:
            number = os.open(
                self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666
            )
        except OSError as problem:
            if problem.errno not in (errno.ELOOP, errno.ENXIO):
                raise
        if number is None or not stat.S_ISREG(os.fstat(number).st_mode):
            raise UserError(f"{self.baseFilename} is no ordinary file, as a log is: somebody put it there; delete it")
        return os.fdopen(number, "a", encoding="utf-8")


def _bell(path: Path) -> Path:
    return path.with_name(f"{path.name}.wanted")


def now() -> str:
    """The time, in UTC, as files have it.

    Example:
        >>> len(now())
        25
    """
    return datetime.now(UTC).isoformat(timespec="seconds")


def absent(path: Path) -> str:
    """A sentence about a missing file, with the file of its folder that has a name like it.

    Example:
        >>> absent(Path("nowhere/rows.csv"))
        'there is no file nowhere/rows.csv'
    """
    there = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, there, 1, cutoff=0.7)
    return f"there is no file {path}" + (f": did you mean {path.with_name(near[0])}?" if near else "")
