"""The files of a folder of the cache when it was made, so that a later change is seen before its files are used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from kdlab.file import sha256

NAME = ".manifest"


def write(folder: Path) -> None:
    """Note the checksum of every file of a folder, in the folder."""
    sums = {path.relative_to(folder).as_posix(): sha256(path) for path in _files(folder)}
    (folder / NAME).write_text(json.dumps(sums))


def changed(folder: Path, within: Path | None = None) -> str:
    """The first file that is not as it was noted; "" where all are.

    Args:
        within: a file or folder of it; only what is there is looked at. None: everything.
    """
    try:
        sums = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return NAME
    root = folder if within is None else within
    inner = "" if root == folder else root.relative_to(folder).as_posix()
    noted = {name for name in sums if not inner or name == inner or name.startswith(f"{inner}/")}
    there = {path.relative_to(folder).as_posix(): path for path in _files(root)}
    if odd := sorted(noted ^ there.keys()):
        return odd[0]
    return next((name for name, path in sorted(there.items()) if sha256(path) != sums[name]), "")


def _files(root: Path) -> Iterator[Path]:
    """The ordinary files of a folder and below, or the file itself; links count as files, wherever they lead.

    What was unpacked of an archive later, into a folder that ends in ``!``, has a manifest of its own.
    """
    if not root.is_dir() or root.is_symlink():
        yield root
        return
    for path in sorted(root.iterdir()):
        if path.name != NAME and not (path.is_dir() and path.name.endswith("!")):
            yield from _files(path)
