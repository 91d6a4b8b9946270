"""What a frozen model said of every row, on disk: content-addressed, written once under a lock, memory-mapped, checked.

A store holds one array a name (``logits``, a tap, …) for every row of a data set. Values of fixed shape are stored row
after row; those with a token axis flat, the rows' real tokens one after the other; attention maps as the pairs of a
row's real tokens. Nothing is padded.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from kdlab.error import UserError
from kdlab.file import lock, read_json, sha256, text_inside, write_json
from kdlab.run import now

FILE = re.compile(r"[\w.:-]+\.npy")  # of a store: in its own folder
TYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": np.int16,
    "int32": np.int32,
}  # and what their bits are kept as
FLUSH_SECONDS = 10.0  # between two moments that an interrupted build can go on from


@dataclass(frozen=True)
class Part:
    """What was said of some rows.

    Attributes:
        rows: ``[B]`` row ids.
        values: by name, its kind and an array with a line a row, a real token or a pair of real tokens of these rows.
    """

    rows: np.ndarray
    values: dict[str, tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Store:
    """One finished store, opened read-only.

    Attributes:
        folder: ``outputs/store/<key>``.
        arrays: memory-mapped, by name.
        offsets: by kind ``[N + 1]``, where each row's lines begin.
        meta: what ``meta.json`` says: what the store is of, the kind and type of each array, how long it took.
    """

    folder: Path
    arrays: dict[str, np.ndarray]
    offsets: dict[str, np.ndarray]
    meta: dict

    @property
    def seconds(self) -> float:
        return float(self.meta["seconds"])

    def kind(self, name: str) -> str:
        return self.meta["arrays"][name]["kind"]

    def dtype(self, name: str) -> str:
        """``float32``, ``float16`` or ``bfloat16`` (which numpy lacks: such an array holds the bits as int16)."""
        return self.meta["arrays"][name]["dtype"]

    def gather(self, name: str, rows: np.ndarray, length: int) -> np.ndarray:
        """The stored values of some rows, padded with 0: by kind ``[B, ...]``, ``[B, length, ...]`` or
        ``[B, ..., length, length]``."""
        array, kind = self.arrays[name], self.kind(name)
        if kind == "row":
            return array[rows]
        starts, ends = self.offsets[kind][rows], self.offsets[kind][rows + 1]
        if kind == "token":
            out = np.zeros((len(rows), length, *array.shape[1:]), array.dtype)
            for place, (begin, end) in enumerate(zip(starts, ends, strict=True)):
                out[place, : end - begin] = array[begin:end]
            return out
        out = np.zeros((len(rows), *array.shape[1:], length, length), array.dtype)
        for place, (begin, end) in enumerate(zip(starts, ends, strict=True)):
            real = round((end - begin) ** 0.5)
            square = array[begin:end].reshape(real, real, *array.shape[1:])
            out[place, ..., :real, :real] = np.moveaxis(square, (0, 1), (-2, -1))
        return out


def key(**parts: object) -> str:
    """The address of a store: a hash of all that decides what is in it."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def ensure(
    root: Path, address: str, describe: dict, lengths: np.ndarray, build: Callable[[int], Iterator[Part]]
) -> Store:
    """Open the store, building it first where it is missing or damaged; however many processes ask, one builds.

    Args:
        root: ``outputs/store``.
        address: from :func:`key`.
        describe: what the store is of, for its ``meta.json``.
        lengths: ``[N]``, how many real tokens each row has.
        build: ``build(done)`` yields the parts after the first ``done``, in an order that is always the same; each row
            is in one part.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root.absolute() / address
    with lock(root / f".{address}.lock", f"teacher targets {address}"):
        if (folder / "meta.json").exists():
            try:
                return _used(opened(folder))
            except UserError as problem:
                print(f"{problem}: built again", flush=True)
        _write(folder, describe, lengths, build)
        return _used(opened(folder))


def afford(store: Store, lengths: np.ndarray, times: int) -> None:
    """Say what so many stores more take, of rows of these lengths, before the first is built.

    Raises:
        UserError: the disk has not enough room.
    """
    offsets = _offsets(lengths)
    sizes = {
        name: int(offsets[store.kind(name)][-1]) * int(np.prod(array.shape[1:])) * array.itemsize
        for name, array in store.arrays.items()
    }
    _room(times * sum(sizes.values()), store.folder.parent, f"the teacher targets of {times} epochs")


def _room(needed: int, folder: Path, what: str, each: str = "") -> None:
    """Say how much room is needed, where it is much or something is to be said of ``each`` line, or there is none."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} need {needed / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free: make room, set "
            "outputs=FOLDER on a larger disk, or store less (teacher.dtype=bfloat16, fewer taps)"
        )
    if needed > 1e8 or each:
        print(f"{what}: {needed / 1e6:,.1f} MB in {folder}{each}", flush=True)


def _used(store: Store) -> Store:
    with suppress(OSError):  # a store that may only be read is as good
        (store.folder / "used").touch()
    return store


def _offsets(lengths: np.ndarray) -> dict[str, np.ndarray]:
    sizes = {"row": np.ones_like(lengths), "token": lengths, "pair": lengths**2}
    return {kind: np.concatenate([[0], np.cumsum(size)]).astype(np.int64) for kind, size in sizes.items()}


def _write(folder: Path, describe: dict, lengths: np.ndarray, build: Callable[[int], Iterator[Part]]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    draft = folder.with_name(f".{folder.name}.part")
    state = _unfinished(draft)
    if not state:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
    done, spent, known = state.get("done", 0), state.get("seconds", 0.0), state.get("arrays", {})
    offsets = _offsets(lengths)
    arrays = {name: np.load(draft / f"{name}.npy", mmap_mode="r+", allow_pickle=False) for name in known}
    start = flushed = time.perf_counter()
    for part in build(done):
        if not arrays:
            arrays, known = _allocate(draft, part, offsets)
        for name, (kind, value) in part.values.items():
            where = offsets[kind]
            lines = (
                part.rows if kind == "row" else np.concatenate([np.arange(where[r], where[r + 1]) for r in part.rows])
            )
            arrays[name][lines] = value
        done += 1
        if time.perf_counter() - flushed > FLUSH_SECONDS:
            flushed = _flush(arrays)
            write_json(draft / "state.json", {"done": done, "seconds": spent + flushed - start, "arrays": known})
    _flush(arrays)
    np.save(draft / "lengths.npy", lengths)
    (draft / "state.json").unlink(missing_ok=True)
    meta = describe | {
        "files": {path.name: sha256(path) for path in sorted(draft.glob("*.npy"))},
        "arrays": known,
        **({"top_k_bytes": bytes_a_line(arrays)} if "index" in arrays else {}),
        "rows": len(lengths),
        "seconds": round(spent + time.perf_counter() - start, 3),
        "built_at": now(),
    }
    write_json(draft / "meta.json", meta)
    draft.rename(folder)


def _unfinished(draft: Path) -> dict:
    """Where an interrupted build of the same store got to; nothing where there is none or it cannot be trusted."""
    try:
        state = read_json(draft / "state.json", "")
        whole = all((draft / f"{name}.npy").is_file() for name in state["arrays"])
        return state if whole and int(state["done"]) >= 0 else {}
    except (UserError, KeyError, TypeError, ValueError):
        return {}


def _allocate(draft: Path, part: Part, offsets: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict]:
    """The files at their full size, which the first part tells.

    Raises:
        UserError: the disk has not enough room.
    """
    arrays: dict[str, np.ndarray] = {}
    shapes = {name: (int(offsets[kind][-1]), *value.shape[1:]) for name, (kind, value) in part.values.items()}
    needed = sum(int(np.prod(shape)) * part.values[name][1].itemsize for name, shape in shapes.items())
    _room(needed, draft.parent, "the teacher targets", _each(part))
    for name, shape in shapes.items():
        value = part.values[name][1]
        arrays[name] = np.lib.format.open_memmap(draft / f"{name}.npy", "w+", value.dtype, shape)
    return arrays, {
        name: {"kind": kind, "dtype": "bfloat16" if value.dtype == np.int16 else str(value.dtype)}
        for name, (kind, value) in part.values.items()
    }


def _each(part: Part) -> str:
    """What is kept of each position, where it is the largest logits."""
    if "index" not in part.values:
        return ""
    (kind, value), size = part.values["logits"], bytes_a_line({name: value for name, (_, value) in part.values.items()})
    return f" (the {value.shape[-1]} largest logits in {value.dtype}, {size} bytes a {kind})"


def bytes_a_line(arrays: dict[str, np.ndarray]) -> int:
    """Bytes of what is kept of the largest logits of a row or token."""
    return sum(arrays[name].itemsize * arrays[name].shape[-1] for name in ("logits", "index", "tail"))


def _flush(arrays: dict[str, np.ndarray]) -> float:
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()
    return time.perf_counter()


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
        lengths = arrays.pop("lengths.npy")
        store = Store(folder, {name.removesuffix(".npy"): a for name, a in arrays.items()}, _offsets(lengths), meta)
        _agree(store, lengths)
    except Exception as problem:  # whatever is wrong in a file, the store is damaged, and can be built again
        said = str(problem) or type(problem).__name__
        raise UserError(f"the teacher targets in {folder} are damaged ({said})") from problem
    return store


def _agree(store: Store, lengths: np.ndarray) -> None:
    """Refuse arrays that do not belong together: reading them would give wrong targets, or fail in mid-training."""
    if lengths.ndim != 1 or lengths.dtype != np.int64 or len(lengths) == 0 or (lengths < 0).any():
        raise ValueError("lengths.npy holds no lengths")
    if "logits" not in store.arrays or set(store.arrays) != set(store.meta["arrays"]):
        raise ValueError("an array is missing")
    for name, array in store.arrays.items():
        lines = int(store.offsets[store.kind(name)][-1])
        if array.dtype != TYPES[store.dtype(name)] or array.ndim == 0 or len(array) != lines:
            raise ValueError(f"{name}.npy is no array of numbers for {lines} lines")
    float(store.seconds)


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def unused_days(folder: Path) -> float:
    """Days since a run asked for the store."""
    used = folder / "used"
    return max(0.0, time.time() - (used if used.exists() else folder).stat().st_mtime) / 86400


def remove(folder: Path) -> None:
    """Delete a store under its lock; one that is being written is waited for."""
    address = folder.name.removeprefix(".").removesuffix(".part")
    with lock(folder.with_name(f".{address}.lock"), f"teacher targets {address}"):
        shutil.rmtree(folder, ignore_errors=True)  # the lock file stays: others may wait for it
