"""Tokenised rows with answers: the flat files of ordinary rows, and beside each token whether it is of an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from kdlab import manifest
from kdlab.batch import ANSWER
from kdlab.datamodule import rows as flat
from kdlab.datamodule.processor.base import Encoded
from kdlab.datamodule.rows import Rows


@final
@dataclass(frozen=True)
class AnsweredRow:
    """A row's tokens, which of them are of answers, and how many were cut off."""

    tokens: Sequence[int]
    answer: Sequence[bool]
    lost: int = 0


@final
@dataclass(frozen=True)
class AnsweredRows(Encoded):
    """Token ids of all rows, and the tokens that answer. The mask goes by position: an id may be in both.

    Attributes:
        rows: the tokens.
        answer: ``[T]`` bool, beside ``rows.tokens``.
        lost: ``[N]`` int64, how many tokens of each row were cut off.
    """

    rows: Rows
    answer: np.ndarray
    lost: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:  # type: ignore[override]
        return self.rows.lengths

    @cached_property
    def predictions(self) -> np.ndarray:
        """``[N]`` int64: the answers' tokens but a row's first, which nothing comes before."""
        begins = self.rows.offsets[:-1]
        counts = np.concatenate([[0], np.cumsum(self.answer, dtype=np.int64)])
        first = np.zeros(len(begins), np.int64)
        full = self.lengths > 0
        first[full] = self.answer[begins[full]]
        return counts[self.rows.offsets[1:]] - counts[begins] - first

    @property
    def answer_counts(self) -> np.ndarray:
        """``[N]`` int64: the answers of each row, runs of tokens that answer."""
        before = np.concatenate([[False], self.answer[:-1]])
        begins = self.rows.offsets[:-1]
        before[begins[self.lengths > 0]] = False
        counts = np.concatenate([[0], np.cumsum(self.answer & ~before, dtype=np.int64)])
        return counts[self.rows.offsets[1:]] - counts[begins]

    def answers(self, index: np.ndarray, length: int) -> dict[str, Tensor]:
        begins, ends = self.rows.offsets[index], self.rows.offsets[index + 1]
        place = begins[:, None] + np.arange(length)
        real = place < ends[:, None]
        found = np.zeros(real.shape, bool)
        found[real] = self.answer[place[real]]
        return {ANSWER: torch.from_numpy(found)}

    def collate(self, index: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        return self.rows.collate(index)


def unanswered(prompts: Sequence[Sequence[int]], most: int, first: int | None, pad: int = 0) -> AnsweredRows:
    """Prompts with a token of padding in place of an answer, which generating does not read.

    Args:
        most: tokens of a prompt; of longer ones the begin is left out, but a token that begins every text stays.
        first: the id of that token.

    Example:
        >>> found = unanswered([[7, 1, 2, 3], [4]], most=3, first=7)
        >>> found.rows.row(0).tolist(), found.rows.row(1).tolist(), found.lost.tolist()
        ([7, 2, 3, 0], [4, 0], [1, 0])
    """
    kept = [list(one[-most:]) for one in prompts]
    for short, whole in zip(kept, prompts, strict=True):
        if len(short) < len(whole) and most > 1 and whole[0] == first:
            short[0] = whole[0]
    lost = np.array([len(one) for one in prompts], np.int64) - [len(one) for one in kept]
    rows = flat.repeated([[*one, pad] for one in kept], len(kept), pad)
    marks = np.concatenate([np.arange(len(one) + 1) == len(one) for one in kept])
    return AnsweredRows(rows, marks, lost)


def repeated(some: Sequence[AnsweredRow], count: int, pad: int = 0) -> AnsweredRows:
    """``count`` rows made of some, which take turns."""
    rows = flat.repeated([one.tokens for one in some], count, pad)
    marks = np.concatenate([np.asarray(one.answer, bool) for one in some])
    lost = np.resize(np.array([one.lost for one in some], np.int64), count)
    return AnsweredRows(rows, np.resize(marks, len(rows.tokens)), lost)


def stored(fingerprint: str, count: int, encode: Callable[[], Iterable[AnsweredRow]], pad: int = 0) -> AnsweredRows:
    """The ``count`` rows kept under ``fingerprint``; encoded and kept if they are not there, or damaged."""

    def opened(folder: Path) -> AnsweredRows | None:
        rows = flat.opened(folder, count, pad)
        answer, lost = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("answer", "lost"))
        fits = answer.dtype == bool and lost.dtype == np.int64 and lost.shape == (count,)
        if rows is None or not fits or answer.shape != rows.tokens.shape:
            return None
        return AnsweredRows(rows, answer, np.array(lost))

    return flat.kept(fingerprint, lambda new: write(new, encode()), opened)


def write(folder: Path, rows: Iterable[AnsweredRow]) -> None:
    """Write rows as ``tokens.npy``, ``offsets.npy``, ``answer.npy`` and ``lost.npy``."""
    marks: list[np.ndarray] = []
    lost: list[int] = []

    def tokens() -> Iterable[Sequence[int]]:
        for row in rows:
            marks.append(np.asarray(row.answer, bool))
            lost.append(row.lost)
            yield row.tokens

    flat.write(folder, tokens())
    np.save(folder / "answer.npy", np.concatenate(marks))
    np.save(folder / "lost.npy", np.array(lost, np.int64))
    manifest.write(folder)
