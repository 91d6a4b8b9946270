"""The building of a store: once, in shards, by all the processes that ask for it, on any number of nodes.

Each process does the shards that no other one is doing, under a lock a shard that ends with its holder. What is done
stays, so that an interrupted build goes on. Whoever comes first when all is there puts the shards together.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from kdlab.error import UserError
from kdlab.file import lock, now, sha256, write_json
from kdlab.store.packed import Packing
from kdlab.store.store import ASKED, TYPES, Store, opened, row_offsets, unit_of

WAITS = "waits for another job, which is storing the teacher's outputs"
LEAST_PARTS = 16  # of a shard
MOST_SHARDS = 256
FORMAT = b"1"  # of shards: those of another one, which an interrupted build left, are not read


@dataclass(frozen=True)
class TargetChunk:
    """The outputs for some rows.

    Attributes:
        rows: ``[B]`` row ids.
        values: by name, its kind and an array with a line a row, a real token or a pair of real tokens of these rows;
            or a line for each token that is asked, beside ``asked``, a bool for each real token.
        packing: of the logits, where they are packed; the same in all chunks.
    """

    rows: np.ndarray
    values: dict[str, tuple[str, np.ndarray]]
    packing: Packing | None = None


Build = Callable[[Iterator[int]], Iterator[TargetChunk]]


def open_or_build(
    root: Path, address: str, describe: dict, lengths: np.ndarray, groups: Sequence[np.ndarray], build: Build
) -> Store:
    """Open the store; where it is missing or damaged, build it, together with all others who ask for it meanwhile.

    Args:
        root: ``outputs/store``.
        address: from :func:`kdlab.store.store.key`.
        describe: the origin of the store, for its ``meta.json``.
        lengths: ``[N]``, how many real tokens each row has.
        groups: the row ids of each part; each row is in one.
        build: ``build(numbers)`` gives the parts of these numbers, in their order. Which come next is decided when they
            are drawn, so it should not draw many ahead.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root.absolute() / address
    guard, what = root / f".{address}.lock", f"teacher targets {address}"
    builder = StoreBuilder(folder.with_name(f".{address}.part"), what, lengths, groups)
    while True:
        with lock(guard, what, shared=True, waits=WAITS):
            if not (folder / "meta.json").exists():
                builder.contribute(build)
            else:
                with suppress(UserError):
                    return _used(opened(folder))
        with lock(guard, what, waits=WAITS):  # no other process opens or builds it now
            if not (folder / "meta.json").exists():
                if builder.finish(folder, describe):
                    return _used(opened(folder))
                continue
            try:
                return _used(opened(folder))
            except UserError as problem:
                print(f"{problem}: built again", flush=True)
                shutil.rmtree(folder)


def _used(store: Store) -> Store:
    with suppress(OSError):  # a store that may only be read is as good
        (store.folder / "used").touch()
    return store


def check_space(store: Store, lengths: np.ndarray, times: int) -> None:
    """Print the space that several more stores of rows of these lengths need, before the first is built.

    Raises:
        UserError: the disk has not enough room.
    """
    offsets = row_offsets(lengths) | {ASKED: store.offsets.get(ASKED, np.zeros(1))}
    sizes = {
        name: int(offsets[store.kind(name)][-1]) * int(np.prod(array.shape[1:])) * array.itemsize
        for name, array in store.arrays.items()
    }
    _room(times * sum(sizes.values()), store.folder.parent, f"the teacher targets of {times} epochs")


def _room(needed: int, folder: Path, what: str, each: str = "") -> None:
    """Print the space that is needed, where it is much or ``each`` line has a text; raise where there is too little."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} need {needed / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free: make room, set "
            "outputs=FOLDER on a larger disk, or store less (teacher.dtype=bfloat16, fewer taps)"
        )
    if needed > 1e8 or each:
        print(f"{what}: {needed / 1e6:,.1f} MB in {folder}{each}", flush=True)


class StoreBuilder:
    """A store that is being built: a folder of finished shards.

    Args:
        folder: ``outputs/store/.<key>.part``.
        what: its name in messages.
        lengths, groups: as for :func:`open_or_build`.
    """

    def __init__(self, folder: Path, what: str, lengths: np.ndarray, groups: Sequence[np.ndarray]) -> None:
        self.folder, self.what, self.lengths, self.groups = folder, what, lengths, groups
        size = max(LEAST_PARTS, -(-len(groups) // MOST_SHARDS))
        self.shards = [range(len(groups))[start : start + size] for start in range(0, len(groups), size)]
        # whoever cuts the rows in other parts makes shards of his own
        known = hashlib.sha256(FORMAT + np.array([len(group) for group in groups], np.int64).tobytes())
        for group in groups:
            known.update(np.asarray(group, np.int64).tobytes())
        self.layout = known.hexdigest()[:8]

    def contribute(self, build: Build) -> None:
        """Do what no other process is doing, until all shards are there."""
        self.folder.mkdir(exist_ok=True)
        with ExitStack() as locks:
            self._write(build, self._free(locks))
        for shard in self.missing():  # others have begun them; where one of these dies, its lock is free
            with lock(self._path(shard, "lock"), self.what, waits=WAITS):
                self._write(build, iter({shard}.intersection(self.missing())))

    def missing(self) -> list[int]:
        """The shards that are not there."""
        there = {path.name for path in self.folder.iterdir()}
        return [shard for shard in range(len(self.shards)) if self._path(shard, "npz").name not in there]

    def finish(self, folder: Path, describe: dict) -> bool:
        """Make the store of the shards; False where one is missing, or was damaged and is missing now."""
        if not self.folder.is_dir() or self.missing() or (offsets := self._offsets()) is None:
            return False
        seconds = 0.0
        arrays: dict[str, np.ndarray] = {}
        kinds: dict[str, str] = {}
        packing: Packing | None = None
        for shard in range(len(self.shards)):
            if (read := self._sound(shard)) is None:
                return False
            part, spent = read
            seconds, packing = seconds + spent, part.packing
            for name, (kind, value) in part.values.items():
                if name not in arrays:
                    shape = (int(offsets[kind][-1]), *value.shape[1:])
                    arrays[name] = np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", value.dtype, shape)
                    kinds[name] = kind
                arrays[name][_places(part.rows, kind, offsets)] = value
            self._path(shard, "npz").unlink()  # so that the disk need not hold all of it twice
        for array in arrays.values():
            array.flush()  # type: ignore[attr-defined]
        kinds.pop(ASKED, None)  # beside the lengths: it says where lines belong
        np.save(self.folder / "lengths.npy", self.lengths)
        for path in (*self.folder.glob("*.npz*"), *self.folder.glob("*.lock*"), *self.folder.glob(".*.part")):
            path.unlink()
        meta = describe | {
            "files": {path.name: sha256(path) for path in sorted(self.folder.glob("*.npy"))},
            "arrays": {
                name: {"kind": kinds[name], "dtype": type_name(array)}
                for name, array in arrays.items()
                if name != ASKED
            },
            **({"packing": packing.plain()} if packing else {}),
            **({"top_k_bytes": bytes_a_line(arrays)} if packing or "index" in arrays else {}),
            "rows": len(self.lengths),
            "seconds": round(seconds, 3),
            "built_at": now(),
        }
        write_json(self.folder / "meta.json", meta)
        shutil.rmtree(folder, ignore_errors=True)
        self.folder.rename(folder)
        return True

    def _free(self, locks: ExitStack) -> Iterator[int]:
        """Shards that no process has begun, each locked when it is drawn."""
        for shard in self.missing():
            held = locks.enter_context(lock(self._path(shard, "lock"), self.what, wait=False))
            if held and shard in self.missing():
                yield shard

    def _write(self, build: Build, shards: Iterator[int]) -> None:
        """Let the parts of the shards be built, and write each shard when it is whole."""
        if not (first := list(islice(shards, 1))):
            return  # and the model need not even be loaded
        drawn: deque[int] = deque()

        def numbers() -> Iterator[int]:
            for shard in chain(first, shards):
                drawn.append(shard)
                yield from self.shards[shard]

        parts: list[TargetChunk] = []
        begun = time.perf_counter()
        for part in build(numbers()):
            if not parts and len(self.missing()) == len(self.shards):
                self._room(part)
            parts.append(part)
            if len(parts) == len(self.shards[drawn[0]]):
                self._save(drawn.popleft(), parts, time.perf_counter() - begun)
                parts, begun = [], time.perf_counter()

    def _save(self, shard: int, parts: Sequence[TargetChunk], seconds: float) -> None:
        path = self._path(shard, "npz")
        scratch = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}")
        values: dict[str, Any] = {
            f"{kind}:{name}": np.concatenate([part.values[name][1] for part in parts])
            for name, (kind, _) in parts[0].values.items()
        }
        if parts[0].packing:
            values["packing"] = json.dumps(parts[0].packing.plain())
        with scratch.open("wb") as file:
            np.savez(file, rows=np.concatenate([part.rows for part in parts]), seconds=seconds, **values)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)

    def _offsets(self) -> dict[str, np.ndarray] | None:
        """Row offsets of each kind, with the tokens that the shards name as asked; None where one is damaged."""
        offsets = row_offsets(self.lengths)
        asked = np.zeros(offsets["token"][-1], bool)
        for shard in range(len(self.shards)):
            if (read := self._sound(shard, ASKED)) is None:
                return None
            part, _ = read
            if ASKED not in part.values:
                return offsets
            asked[_places(part.rows, "token", offsets)] = part.values[ASKED][1]
        return row_offsets(self.lengths, asked)

    def _sound(self, shard: int, only: str | None = None) -> tuple[TargetChunk, float] | None:
        """As :meth:`_read`; None where the shard is damaged in any way, and now missing, so that it is done again."""
        try:
            return self._read(shard, only)
        except Exception:
            self._path(shard, "npz").unlink()
            return None

    def _read(self, shard: int, only: str | None = None) -> tuple[TargetChunk, float]:
        """A shard, and how long it took; what zip files hold is compared with its checksum as it is read.

        Args:
            only: the one array that is read; None: all.
        """
        with np.load(self._path(shard, "npz"), allow_pickle=False) as content:
            names = [name for name in content.files if ":" in name and only in (None, name.partition(":")[2])]
            values = {name.partition(":")[2]: (name.partition(":")[0], content[name]) for name in names}
            packing = Packing.read(json.loads(str(content["packing"]))) if "packing" in content else None
            return TargetChunk(content["rows"], values, packing), float(content["seconds"])

    def _path(self, shard: int, suffix: str) -> Path:
        return self.folder / f"{self.layout}-{shard:04d}.{suffix}"

    def _room(self, part: TargetChunk) -> None:
        lines = {kind: int(offsets[-1]) for kind, offsets in row_offsets(self.lengths).items()}
        if ASKED in part.values:  # a share of the tokens, as of these
            lines[ASKED] = round(lines["token"] * float(part.values[ASKED][1].mean()))
        needed = sum(
            lines[kind] * int(np.prod(value.shape[1:])) * value.itemsize for kind, value in part.values.values()
        )
        _room(needed, self.folder.parent, "the teacher targets", _each(part))


def _places(rows: np.ndarray, kind: str, offsets: dict[str, np.ndarray]) -> np.ndarray:
    """The lines of an array that belong to the rows."""
    where = offsets[kind]
    return rows if kind == "row" else np.concatenate([np.arange(where[row], where[row + 1]) for row in rows])


def _each(part: TargetChunk) -> str:
    """The arrays kept of each position, where only the largest logits are."""
    if "logits" not in part.values:  # a store of answers
        return ""
    (kind, value), size = part.values["logits"], bytes_a_line({name: value for name, (_, value) in part.values.items()})
    if part.packing:
        return f" (the {part.packing.k} largest logits, packed, {size} bytes a {unit_of(kind)})"
    if "index" in part.values:
        return f" (the {value.shape[-1]} largest logits in {type_name(value)}, {size} bytes a {unit_of(kind)})"
    return ""


def bytes_a_line(arrays: dict[str, np.ndarray]) -> int:
    """Bytes of what is kept of the largest logits of a row or token."""
    found = [arrays[name] for name in ("logits", "index", "tail") if name in arrays]
    return sum(array.itemsize * array.shape[-1] for array in found)


def type_name(array: np.ndarray) -> str:
    """The name of an array's type among :data:`kdlab.store.store.TYPES`."""
    return next(name for name, kept in TYPES.items() if array.dtype == kept)
