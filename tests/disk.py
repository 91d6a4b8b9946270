"""What a disk holds after a power loss: only contents that were synced, under names whose folder was synced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

State = tuple[tuple[str, bytes], ...]  # path and content of every file, sorted


@dataclass
class Disk:
    """Follows what this process does to the files below ``root``.

    A file whose content was never synced is empty after a power loss. File systems differ in what they keep beyond what
    was synced, so three disks are looked at after each change: one without any other name, one with every name (but no
    other content), and one with the name that was changed last and no other.

    Attributes:
        contents: the synced content of each file, by inode.
        names: the synced names of each folder, by inode, and the inodes that they are of.
        versions: by path, every content that a file had when it was moved there.
        states: the distinct disks, with the change after which each was met first.
    """

    root: Path
    contents: dict[int, bytes] = field(default_factory=dict)
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    versions: dict[str, set[bytes]] = field(default_factory=dict)
    states: dict[State, str] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)  # open files by inode, whose number is then not used again
    folders: set[int] = field(default_factory=set)

    def follow(self, monkeypatch: Any) -> Disk:
        """Follow every change until the end of the test."""
        self._folder(self.root)
        moved: dict[str, Callable[..., Path]] = {"replace": lambda source, target: target}
        moved |= {"rename": moved["replace"], "mkdir": lambda path, *mode: path, "unlink": lambda path: path}
        moved["fsync"] = lambda number: Path(f"/proc/self/fd/{number}").readlink()
        for name, place in moved.items():
            monkeypatch.setattr(os, name, self._followed(name, getattr(os, name), place))
        return self

    def close(self) -> None:
        for number in self.held.values():
            os.close(number)
        self.held.clear()

    def _followed(self, name: str, real: Callable, place: Callable[..., Path]) -> Callable:
        def changed(*arguments: Any, **named: Any) -> Any:
            result = real(*arguments, **named)
            if "dir_fd" not in named:
                path = Path(place(*arguments)).absolute()
                if path.is_relative_to(self.root):
                    self._change(name, path)
            return result

        return changed

    def _change(self, name: str, path: Path) -> None:
        if name == "mkdir":
            self._folder(path)
        elif name == "fsync" and path.is_dir():
            self.names[self._hold(path)] = {one.name: self._hold(one) for one in path.iterdir()}
        elif name == "fsync" and path.exists():
            self.contents[self._hold(path)] = path.read_bytes()
        elif name in ("replace", "rename"):
            for file in files(path):
                self.versions.setdefault(self._name(file), set()).add(file.read_bytes())
        for state in (self._lost(None), self._torn(), self._lost(path)):
            self.states.setdefault(state, f"{name} {self._name(path)}")

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _hold(self, path: Path) -> int:
        inode = path.stat().st_ino
        if inode not in self.held:
            self.held[inode] = os.open(path, os.O_RDONLY)
        return inode

    def _folder(self, path: Path) -> None:
        self.folders.add(self._hold(path))

    def _torn(self) -> State:
        return self._state((self._name(path), path.stat().st_ino) for path in files(self.root))

    def _lost(self, newest: Path | None) -> State:
        """Synced names, and ``newest``."""
        extra: dict[int, dict[str, int]] = {}
        if newest is not None and newest.exists() and newest != self.root:
            extra = {newest.parent.stat().st_ino: {newest.name: newest.stat().st_ino}}

        def inside(folder: int, place: str) -> Iterator[tuple[str, int]]:
            for name, inode in (self.names.get(folder, {}) | extra.get(folder, {})).items():
                if inode in self.folders:
                    yield from inside(inode, f"{place}{name}/")
                else:
                    yield f"{place}{name}", inode

        return self._state(inside(self.root.stat().st_ino, ""))

    def _state(self, found: Iterable[tuple[str, int]]) -> State:
        return tuple(sorted((path, self.contents.get(inode, b"")) for path, inode in found))


def files(path: Path) -> list[Path]:
    """A file, or all files below a folder."""
    return [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]


def restore(state: State, folder: Path) -> None:
    """Write the files of a disk."""
    folder.mkdir()
    for name, content in state:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
