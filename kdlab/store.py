"""Teacher targets on disk: content-addressed, written once under a lock, memory-mapped, checked on open.

A store holds one array a tap (and one of logits) for every row of a data set. Arrays with a token axis are stored flat,
the rows' real tokens one after the other.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from kdlab.error import UserError
from kdlab.file import lock, sha256, text_inside, write_json
from kdlab.run import now

FILE = re.compile(r"[\w.:-]+\.npy")  # of a store: in its own folder

# rows [B], {name: [B, ...]}, {name: [real tokens of these rows, ...]}
Part = tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Store:
    """One finished store, opened read-only.

    Attributes:
        folder: ``outputs/store/<key>``.
        arrays: memory-mapped, by name; ``logits`` is ``[N, C]``, a token-level tap ``[T, D]``.
        offsets: ``[N + 1]``, where each row's tokens begin in a token-level array.
        seconds: what the teacher pass took.
    """

    folder: Path
    arrays: dict[str, np.ndarray]
    offsets: np.ndarray
    token_level: frozenset[str]
    seconds: float

    def gather(self, name: str, rows: np.ndarray, length: int) -> np.ndarray:
        """The stored values of some rows: ``[B, ...]``, or ``[B, length, ...]`` padded with 0 for a token-level tap."""
        array = self.arrays[name]
        if name not in self.token_level:
            return array[rows]
        out = np.zeros((len(rows), length, *array.shape[1:]), array.dtype)
        for place, row in enumerate(rows):
            begin, end = self.offsets[row], self.offsets[row + 1]
            out[place, : end - begin] = array[begin:end]
        return out


def key(**parts: object) -> str:
    """The address of a store: a hash of all that decides what is in it."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def ensure(root: Path, address: str, describe: dict, lengths: np.ndarray, build: Callable[[], Iterable[Part]]) -> Store:
    """Open the store, building it first where it is missing or damaged; however many processes ask, one builds.

    Args:
        root: ``outputs/store``.
        address: from :func:`key`.
        describe: what the store is of, for its ``meta.json``.
        lengths: ``[N]``, how many real tokens each row has.
        build: yields the parts, rows in any order, each row once.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root.absolute() / address
    with lock(root / f".{address}.lock", f"teacher targets {address}"):
        if (folder / "meta.json").exists():
            try:
                return _open(folder)
            except UserError as problem:
                print(f"{problem}: built again", flush=True)
        _write(folder, describe, lengths, build)
        return _open(folder)


def _write(folder: Path, describe: dict, lengths: np.ndarray, build: Callable[[], Iterable[Part]]) -> None:
    start = time.perf_counter()
    part_folder = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part_folder, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    part_folder.mkdir()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    arrays: dict[str, np.memmap] = {}
    token_level: set[str] = set()

    def put(name: str, value: np.ndarray, where: np.ndarray, size: int) -> None:
        if name not in arrays:
            shape = (size, *value.shape[1:])
            arrays[name] = np.lib.format.open_memmap(part_folder / f"{name}.npy", "w+", value.dtype, shape)
        arrays[name][where] = value

    for rows, per_row, per_token in build():
        for name, value in per_row.items():
            put(name, value, rows, len(lengths))
        if per_token:
            tokens = np.concatenate([np.arange(offsets[row], offsets[row + 1]) for row in rows])
            token_level |= set(per_token)
        for name, value in per_token.items():
            put(name, value, tokens, int(offsets[-1]))
    for array in arrays.values():
        array.flush()
    np.save(part_folder / "offsets.npy", offsets)
    meta = describe | {
        "files": {path.name: sha256(path) for path in sorted(part_folder.glob("*.npy"))},
        "token_level": sorted(token_level),
        "rows": len(lengths),
        "seconds": round(time.perf_counter() - start, 3),
        "built_at": now(),
    }
    write_json(part_folder / "meta.json", meta)
    part_folder.rename(folder)


@lru_cache(maxsize=8)
def _open(folder: Path) -> Store:
    try:
        meta = json.loads(text_inside(folder / "meta.json"))
        for name, checksum in meta["files"].items():
            if not FILE.fullmatch(name) or (folder / name).is_symlink():
                raise ValueError(f"{name!r} is no file of a store")
            if sha256(folder / name) != checksum:
                raise ValueError(f"{name} was altered or cut short")
        # np.load would also open archives
        arrays: dict[str, np.ndarray] = {
            name.removesuffix(".npy"): np.lib.format.open_memmap(folder / name, mode="r") for name in meta["files"]
        }
        offsets, token_level = arrays.pop("offsets"), frozenset(meta["token_level"])
        _agree(arrays, offsets, token_level)
        return Store(folder, arrays, offsets, token_level, float(meta["seconds"]))
    except Exception as problem:  # whatever is wrong in a file, the store is damaged, and can be built again
        said = str(problem) or type(problem).__name__
        raise UserError(f"the teacher targets in {folder} are damaged ({said})") from problem


def _agree(arrays: dict[str, np.ndarray], offsets: np.ndarray, token_level: frozenset[str]) -> None:
    """Refuse arrays that do not belong together: reading them would give wrong targets, or fail in mid-training."""
    whole = offsets.ndim == 1 and offsets.dtype == np.int64 and len(offsets) > 0 and offsets[0] == 0
    if not whole or (np.diff(offsets) < 0).any():
        raise ValueError("offsets.npy does not count up")
    if "logits" not in arrays or not token_level <= set(arrays):
        raise ValueError("an array is missing")
    for name, array in arrays.items():
        rows = int(offsets[-1]) if name in token_level else len(offsets) - 1
        if array.dtype.kind != "f" or array.ndim == 0 or len(array) != rows:
            raise ValueError(f"{name}.npy is no array of numbers for {rows} rows")


def storable(taps: Collection[str]) -> None:
    """Refuse what a store cannot hold at a reasonable size."""
    for name in taps:
        if name.startswith("attention."):
            raise UserError(
                f"teacher=cached does not store '{name}', tokens x tokens for every head and row; use teacher=live"
            )
