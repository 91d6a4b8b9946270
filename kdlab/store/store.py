"""The outputs of a frozen model for every row, on disk: content-addressed, written once, memory-mapped, checked.

A store holds one array a name (``logits``, a tap, …) for every row of a data set. Values of fixed shape are stored row
after row; those with a token axis flat, the rows' real tokens one after the other, or of these only the asked ones,
such as those of answers; attention maps as the pairs of a row's real tokens. Nothing is padded.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from kdlab.error import UserError
from kdlab.file import lock, sha256, text_inside

FILE = re.compile(r"[\w.:-]+\.npy")  # of a store: in its own folder
ASKED = "asked"  # the kind of arrays with a line for each token about which something is asked, and the mask of these
TYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": np.int16,
    "int32": np.int32,
    "packed": np.uint8,
}  # and what their bits are kept as


@dataclass(frozen=True)
class Store:
    """One finished store, opened read-only.

    Attributes:
        folder: ``outputs/store/<key>``.
        arrays: memory-mapped, by name.
        offsets: by kind ``[N + 1]``, where each row's lines begin.
        meta: the content of ``meta.json``: the origin of the store, the kind and type of each array, how long it took.
        asked: ``[T]`` bool, the real tokens that have lines of the kind ``asked``; None: there is no such kind.
    """

    folder: Path
    arrays: dict[str, np.ndarray]
    offsets: dict[str, np.ndarray]
    meta: dict
    asked: np.ndarray | None = None

    @property
    def seconds(self) -> float:
        return float(self.meta["seconds"])

    def kind(self, name: str) -> str:
        return self.meta["arrays"][name]["kind"]

    def dtype(self, name: str) -> str:
        """``float32``, ``float16``, ``bfloat16`` (which numpy lacks: such an array holds the bits as int16), ``int32``,
        or ``packed``: lines of bytes, as :class:`kdlab.store.packed.Packing` makes them."""
        return self.meta["arrays"][name]["dtype"]

    def lines(self, name: str, rows: np.ndarray) -> np.ndarray:
        """The stored lines of some rows, one after the other, not padded: ``[n, ...]``."""
        array, kind = self.arrays[name], self.kind(name)
        if kind == "row":
            return array[rows]
        where = self.offsets[kind]
        return np.concatenate([array[where[row] : where[row + 1]] for row in rows])

    def real(self, rows: np.ndarray, length: int, kind: str = "token") -> np.ndarray:
        """``[B, length]`` bool: the positions of the rows that have lines of the kind ``token`` or ``asked``."""
        begins = self.offsets["token"][rows]
        real = np.arange(length) < (self.offsets["token"][rows + 1] - begins)[:, None]
        if kind == ASKED and self.asked is not None:
            real[real] = self.asked[(begins[:, None] + np.arange(length))[real]]
        return real

    def gather(self, name: str, rows: np.ndarray, length: int) -> np.ndarray:
        """The stored values of some rows, padded with 0: by kind ``[B, ...]``, ``[B, length, ...]`` or
        ``[B, ..., length, length]``."""
        array, kind = self.arrays[name], self.kind(name)
        if kind == "row":
            return array[rows]
        if kind in ("token", ASKED):
            out = np.zeros((len(rows), length, *array.shape[1:]), array.dtype)
            out[self.real(rows, length, kind)] = self.lines(name, rows)
            return out
        starts, ends = self.offsets[kind][rows], self.offsets[kind][rows + 1]
        out = np.zeros((len(rows), *array.shape[1:], length, length), array.dtype)
        for index, (begin, end) in enumerate(zip(starts, ends, strict=True)):
            real = round((end - begin) ** 0.5)
            square = array[begin:end].reshape(real, real, *array.shape[1:])
            out[index, ..., :real, :real] = np.moveaxis(square, (0, 1), (-2, -1))
        return out


def key(**parts: object) -> str:
    """The address of a store: a hash of all that decides what is in it."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def row_offsets(lengths: np.ndarray, asked: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Row offsets ``[N + 1]`` of each storage kind, from the number of tokens per row.

    Args:
        asked: ``[T]`` bool, which of the rows' tokens, one row after the other, are asked; None: there is no such kind.

    Example:
        >>> row_offsets(np.array([2, 3]), np.array([False, True, True, False, True]))["asked"].tolist()
        [0, 1, 3]
    """
    sizes = {"row": np.ones_like(lengths), "token": lengths, "pair": lengths**2}
    found = {kind: np.concatenate([[0], np.cumsum(size)]).astype(np.int64) for kind, size in sizes.items()}
    if asked is not None:
        found[ASKED] = np.concatenate([[0], np.cumsum(asked, dtype=np.int64)])[found["token"]]
    return found


def unit_of(kind: str) -> str:
    """What an array of this kind has a line for, in words.

    Example:
        >>> unit_of("row"), unit_of("asked")
        ('row', 'token that is asked')
    """
    return "token that is asked" if kind == ASKED else kind


@lru_cache(maxsize=32)
def _checked(folder: Path, stamp: tuple) -> dict:
    """``meta.json``, after every file was compared with its checksum; asked once a process while nothing changes."""
    meta = json.loads(text_inside(folder / "meta.json"))
    for name, checksum in meta["files"].items():
        if not FILE.fullmatch(name) or (folder / name).is_symlink():
            raise ValueError(f"{name!r} is no file of a store")
        if sha256(folder / name) != checksum:
            raise ValueError(f"{name} was altered or cut short")
    return meta


def opened(folder: Path) -> Store:
    """The store in ``folder``, compared with its checksums.

    Raises:
        UserError: it is damaged.
    """
    try:
        files = sorted(folder.iterdir())
        stamp = tuple(
            (path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.name != "used"
        )
        meta = _checked(folder, stamp)
        # np.load would also open archives
        arrays = {name: np.lib.format.open_memmap(folder / name, mode="r") for name in meta["files"]}
        lengths, asked = arrays.pop("lengths.npy"), arrays.pop(f"{ASKED}.npy", None)
        _lengths(lengths, asked)
        offsets = row_offsets(lengths, asked)
        store = Store(folder, {name.removesuffix(".npy"): a for name, a in arrays.items()}, offsets, meta, asked)
        _agree(store)
    except Exception as problem:  # whatever is wrong in a file, the store is damaged, and can be built again
        reason = str(problem) or type(problem).__name__
        raise UserError(f"the teacher targets in {folder} are damaged ({reason})") from problem
    return store


def _lengths(lengths: np.ndarray, asked: np.ndarray | None) -> None:
    if lengths.ndim != 1 or lengths.dtype != np.int64 or len(lengths) == 0 or (lengths < 0).any():
        raise ValueError("lengths.npy holds no lengths")
    if asked is not None and (asked.dtype != bool or asked.shape != (int(lengths.sum()),)):
        raise ValueError(f"{ASKED}.npy is no mask of {int(lengths.sum())} tokens")


def _agree(store: Store) -> None:
    """Refuse arrays that do not belong together: reading them would give wrong targets, or fail in mid-training."""
    if not {"logits", "answer"} & set(store.arrays) or set(store.arrays) != set(store.meta["arrays"]):
        raise ValueError("an array is missing")
    from kdlab.store.packed import Packing  # imports torch, which a list of stores does without

    for name, array in store.arrays.items():
        lines = int(store.offsets[store.kind(name)][-1])
        if array.dtype != TYPES[store.dtype(name)] or array.ndim == 0 or len(array) != lines:
            raise ValueError(f"{name}.npy is no array of numbers for {lines} lines")
        if store.dtype(name) == "packed" and array.shape[1:] != (Packing.read(store.meta["packing"]).size,):
            raise ValueError(f"{name}.npy has no lines of packed logits")
    float(store.seconds)


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def unused_days(folder: Path) -> float:
    """Days since a run asked for the store."""
    used = folder / "used"
    return max(0.0, time.time() - (used if used.exists() else folder).stat().st_mtime) / 86400


def remove(folder: Path) -> bool:
    """Delete a store, or what an interrupted build left; False where a process is building or opening it."""
    address = folder.name.removeprefix(".").removesuffix(".part")
    with lock(folder.with_name(f".{address}.lock"), f"teacher targets {address}", wait=False) as held:
        if held:
            shutil.rmtree(folder, ignore_errors=True)  # the lock file stays: others may wait for it
    return held
