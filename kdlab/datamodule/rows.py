"""Tokenised rows: two flat files in the cache, memory-mapped, so that a text is tokenised once for all runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from kdlab import manifest
from kdlab.datamodule.processor.base import Encoded
from kdlab.fetch import cache, once

R = TypeVar("R")


@dataclass(frozen=True)
class Rows(Encoded):
    """Token ids of all rows.

    Attributes:
        tokens: ``[T]`` int32, row after row.
        offsets: ``[N + 1]`` int64; row i is ``tokens[offsets[i]:offsets[i + 1]]``.
        pad: the id of the padding token.
        separator: the id of the token after the first of two texts, by which collating numbers the texts of a row as
            ``token_type_ids``: 0 up to the first such token, then 1; None: it does not.
        sampled: number of rows that were tokenised, and are repeated for all; None: all were.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    pad: int = 0
    sampled: int | None = None
    separator: int | None = None

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]], pad: int = 0) -> Rows:
        """Rows in memory.

        Example:
            >>> Rows.of([[1, 2], [3]]).lengths.tolist()
            [2, 1]
        """
        parts = [np.asarray(row, np.int32) for row in rows]
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return cls(np.concatenate([np.empty(0, np.int32), *parts]), offsets, pad)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:  # type: ignore[override]
        """``[N]`` int64: tokens a row."""
        return np.diff(self.offsets)

    def row(self, number: int) -> np.ndarray:
        """The numbers of one row."""
        return self.tokens[self.offsets[number] : self.offsets[number + 1]]

    def collate(self, index: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        """Ids and mask, both ``[B, L]`` int64, of the rows ``index``; L is the longest of them."""
        starts = self.offsets[index]
        lengths = self.offsets[index + 1] - starts
        position = np.arange(lengths.max())
        mask = position < lengths[:, None]
        ids = np.full(mask.shape, self.pad, np.int64)
        ids[mask] = self.tokens[(starts[:, None] + position)[mask]]
        real = torch.from_numpy(mask)
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": real.long()}
        if self.separator is not None:
            inputs["token_type_ids"] = torch.from_numpy(segments(ids, mask, self.separator))
        return inputs, real


def segments(ids: np.ndarray, mask: np.ndarray, separator: int) -> np.ndarray:
    """``[B, L]`` int64: 0 up to the first separator of a row and in padding, 1 after it.

    Args:
        ids: ``[B, L]``.
        mask: ``[B, L]`` bool, the real tokens.

    Example:
        >>> segments(np.array([[2, 7, 3, 8, 3, 0]]), np.array([[True] * 5 + [False]]), 3).tolist()
        [[0, 0, 0, 1, 1, 0]]
    """
    end = ids == separator
    return ((np.cumsum(end, 1) - end > 0) & mask).astype(np.int64)


_most: ContextVar[int | None] = ContextVar("most", default=None)


@contextmanager
def sampled(most: int) -> Iterator[None]:
    """In the context, at most ``most`` rows of a data set are tokenised, and are repeated for the others."""
    before = _most.set(most)
    try:
        yield
    finally:
        _most.reset(before)


def sample(fingerprint: str, count: int) -> np.ndarray | None:
    """The rows that are to be tokenised of ``count``, at equal distances; None: all, or they are kept already."""
    most = _most.get()
    if most is None or count <= most or (cache() / "rows" / fingerprint).exists():
        return None
    return np.linspace(0, count - 1, most).astype(int)


def repeated(some: Sequence[Sequence[int]], count: int, pad: int = 0) -> Rows:
    """``count`` rows made of some, which take turns.

    Example:
        >>> repeated([[1, 2], [3]], 3).tokens.tolist()
        [1, 2, 3, 1, 2]
    """
    lengths = np.resize(np.array([len(row) for row in some]), count)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.resize(np.concatenate([np.asarray(row, np.int32) for row in some]), offsets[-1])
    return Rows(ids, offsets, pad, len(some))


def stored(fingerprint: str, count: int, tokenise: Callable[[], Iterable[Sequence[int]]], pad: int = 0) -> Rows:
    """The ``count`` rows kept under ``fingerprint``; tokenised and kept if they are not there, or damaged."""
    return kept(fingerprint, lambda new: write(new, tokenise()), lambda folder: opened(folder, count, pad))


def opened(folder: Path, count: int, pad: int = 0) -> Rows | None:
    """The ``count`` rows in a folder, memory-mapped; None: they are others."""
    # mapped first: a damaged header may name more numbers than there are
    rows = Rows(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("tokens", "offsets")))
    return Rows(rows.tokens, np.array(rows.offsets), pad) if whole(rows, count) else None


def kept(fingerprint: str, build: Callable[[Path], None], read: Callable[[Path], R | None]) -> R:
    """What the cache keeps under ``fingerprint``; built where it is not there, or damaged.

    Args:
        build: writes a new folder, with a manifest.
        read: opens it; None: it is not whole.
    """
    folder = cache() / "rows" / fingerprint
    for _ in range(2):
        once(folder, build)
        try:
            if manifest.changed(folder):
                raise ValueError("a file was changed")
            if (found := read(folder)) is not None:
                return found
        except (OSError, ValueError, EOFError):
            pass
        shutil.rmtree(folder, ignore_errors=True)
    raise RuntimeError(f"{folder} stays unreadable")


def whole(rows: Rows, count: int) -> bool:
    """Whether there are ``count`` rows, one after the other, that make up all tokens."""
    offsets = rows.offsets
    return (
        offsets.shape == (count + 1,)
        and offsets.dtype == np.int64
        and rows.tokens.dtype == np.int32
        and rows.tokens.ndim == 1
        and offsets[0] == 0
        and offsets[-1] == len(rows.tokens)
        and bool((np.diff(offsets) >= 0).all())
    )


def write(folder: Path, rows: Iterable[Sequence[int]]) -> None:
    """Write rows as ``tokens.npy`` and ``offsets.npy``."""
    folder.mkdir()
    parts = [np.asarray(row, np.int32) for row in rows]
    np.save(folder / "tokens.npy", np.concatenate(parts))
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64))
    manifest.write(folder)
