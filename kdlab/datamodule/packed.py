"""Several texts in one row, which do not see each other: less padding for the same tokens."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import torch
from torch import Tensor

from kdlab.batch import ANSWER
from kdlab.datamodule.processor.base import Encoded


@final
@dataclass(frozen=True)
class PackedRows(Encoded):
    """Rows that are made of other rows, one after the other.

    In a batch, positions begin anew with each member, and a member's tokens attend to themselves alone: with
    ``position_ids`` ``[B, L]`` and an additive mask ``[B, 1, L, L]`` the model computes for each member what it
    computes for the member alone. The first token of a member is not predicted. A batch of rows with one member each
    is an ordinary batch.

    Attributes:
        inner: the rows that are packed.
        members: ids of the inner rows of each row.
        pad: the id of the padding token.
    """

    inner: Encoded
    members: Sequence[np.ndarray]
    pad: int = 0

    @cached_property
    def lengths(self) -> np.ndarray:  # type: ignore[override]
        return np.array([int(self.inner.lengths[one].sum()) for one in self.members], np.int64)

    @property
    def unpacked(self) -> Encoded:
        return self.inner

    @cached_property
    def predictions(self) -> np.ndarray:
        return np.array([int(self.inner.predictions[one].sum()) for one in self.members], np.int64)

    @property
    def digest(self) -> str:
        """A hash of which rows are packed with which."""
        known = hashlib.sha256()
        for one in self.members:
            known.update(np.asarray(one, np.int64).tobytes() + b";")
        return known.hexdigest()[:32]

    def collate(self, index: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        members, document, place = self._layout(index)
        inputs, real = self.inner.collate(members)
        assert real is not None
        if len(members) == len(index):
            return inputs, real
        here = torch.from_numpy(document >= 0)
        packed = {}
        for name, values in inputs.items():
            packed[name] = values.new_full(here.shape, self.pad)
            packed[name][here] = values[real]
        packed["attention_mask"] = _apart(torch.from_numpy(document))
        return packed | {"position_ids": torch.from_numpy(place)}, here

    def answers(self, index: np.ndarray, length: int) -> dict[str, Tensor]:
        members, document, place = self._layout(index)
        _, real = self.inner.collate(members)
        assert real is not None
        found = self.inner.answers(members, real.shape[1])
        if len(members) == len(index):
            return found
        here = torch.from_numpy(document >= 0)
        packed = torch.zeros(here.shape, dtype=torch.bool)
        packed[here] = found.get(ANSWER, torch.ones_like(real))[real]
        return {ANSWER: packed & torch.from_numpy(place > 0)}

    def _layout(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The members of the rows ``index``, and of each position ``[B, L]`` its member (-1: none) and its place."""
        groups = [self.members[row] for row in index.tolist()]
        members = np.concatenate(groups)
        lengths, longest = self.inner.lengths, int(self.lengths[index].max())
        document, place = np.full((len(index), longest), -1, np.int64), np.zeros((len(index), longest), np.int64)
        number = 0
        for row, group in enumerate(groups):
            end = 0
            for member in group.tolist():
                begin, end = end, end + int(lengths[member])
                document[row, begin:end], place[row, begin:end] = number, np.arange(end - begin)
                number += 1
        return members, document, place


def _apart(document: Tensor) -> Tensor:
    """``[B, 1, L, L]`` float32, added to attention scores: 0 where a token sees another of its member, before it."""
    number = document.to(torch.int16)
    allowed = number[:, :, None] == number[:, None, :]
    allowed &= torch.ones(allowed.shape[1:], dtype=torch.bool).tril_()
    hidden = torch.finfo(torch.float32).min
    return torch.full(allowed.shape, hidden).masked_fill_(allowed, 0)[:, None]


def best_fit_decreasing(lengths: np.ndarray, capacity: int) -> list[np.ndarray]:
    """The places of the lengths in as few bins as a greedy rule finds, the same for the same lengths.

    The longest first, each into the bin that it leaves least room in. Lengths above the capacity have bins of their
    own.

    Example:
        >>> [one.tolist() for one in best_fit_decreasing(np.array([3, 6, 4, 2]), 8)]
        [[1, 3], [2, 0]]

    Source: Johnson 1974, Fast algorithms for bin packing, JCSS 8.
    """
    bins: list[list[int]] = []
    room: dict[int, list[int]] = {}  # by what is left of a bin: the bins
    left: list[int] = []  # the keys of ``room``, sorted
    for place in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[place])
        at = bisect_left(left, size)
        if at < len(left):
            space = left[at]
            number = room[space].pop()
            if not room[space]:
                del room[space], left[at]
            bins[number].append(place)
        else:
            space, number = max(capacity, size), len(bins)
            bins.append([place])
        if rest := space - size:
            if rest not in room:
                room[rest] = []
                insort(left, rest)
            room[rest].append(number)
    return [np.array(one, np.int64) for one in bins]
