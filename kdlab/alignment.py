"""Which predictions of two models with different tokens are about the same piece of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

INSIDE, NO_TEXT = -1, -2  # in place of the end of a token: it ends inside a character; it is no part of the text


@dataclass(frozen=True)
class Alignment:
    """The groups of positions of student and teacher that predict the same pieces of the texts of a batch.

    Attributes:
        student, teacher: ``[B, L]`` and ``[B, M]`` int64, the group of each position, numbered over the batch from 0
            and rising in each row; -1 where a position belongs to none.
        pairs: ``[2, K]`` int64, the classes of student and teacher that are the same word.
    """

    student: Tensor
    teacher: Tensor
    pairs: Tensor

    @property
    def count(self) -> int:
        """The number of groups."""
        return int(self.student.max().item()) + 1 if self.student.numel() else 0

    @classmethod
    def of(cls, student: Sequence[np.ndarray], teacher: Sequence[np.ndarray], pairs: Tensor) -> Alignment:
        """The alignment of the rows of a batch, whose logits at a position predict the next token.

        Args:
            student, teacher: for each row, where its tokens end in its text, as :func:`groups` takes them.

        Example: BERT and GPT-2 on "ab c", [CLS] a ##b c and a b c, where GPT-2 does not predict its first token:
            >>> ends = [np.array([NO_TEXT, 1, 2, 4])], [np.array([1, 2, 4])]
            >>> found = Alignment.of(*ends, torch.zeros(2, 0, dtype=torch.int64))
            >>> found.student, found.teacher
            (tensor([[-1,  0,  1, -1]]), tensor([[ 0,  1, -1]]))
        """
        found, count = [], 0
        for one, two in zip(student, teacher, strict=True):
            both = groups(one, two)
            found.append(tuple(np.where(side >= 0, side + count, -1) for side in both))
            count += max((int(side.max(initial=-1)) + 1 for side in both), default=0)
        return cls(_positions([one for one, _ in found]), _positions([two for _, two in found]), pairs)

    def map(self, change: Callable[[Tensor], Tensor]) -> Alignment:
        """The same with every tensor changed."""
        return Alignment(change(self.student), change(self.teacher), change(self.pairs))


def groups(student: np.ndarray, teacher: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The groups of two tokenisations of one text: the shortest pieces that both begin and end with whole tokens.

    The first token of a row is predicted by nothing, and belongs to no group; nor does a piece that one side has in
    part, because it was cut, or begins with it.

    Args:
        student, teacher: ``[L]`` and ``[M]``, where each token ends in the text; ``INSIDE`` where that is inside of a
            character, ``NO_TEXT`` for tokens that are no part of it, such as the one that begins a row. A token begins
            where the last one before it ended: space between two belongs to the second.

    Returns:
        ``[L]`` and ``[M]`` int64, the group of each token, from 0; -1 for none.

    Example: "don't" as do, n't and as don, 't, and then " go" in one token on both sides:
        >>> groups(np.array([NO_TEXT, 2, 5, 8]), np.array([NO_TEXT, 3, 5, 8]))
        (array([-1,  0,  0,  1]), array([-1,  0,  0,  1]))

    Source: the walk over byte offsets of GOLD, Patiño et al. 2025 (Unlocking On-Policy Distillation for Any Model
        Family), here over the ends that both sides have in common.
    """
    sides = [_spans(one) for one in (student, teacher)]
    first, second = (np.unique(np.concatenate([begin, end])) for _, begin, end in sides)
    common = np.intersect1d(first, second)
    common = common[common >= 0]
    return _numbers(len(student), *sides[0], common), _numbers(len(teacher), *sides[1], common)


def _spans(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices, begins and ends of the tokens that are part of the text and that something predicts."""
    index = np.flatnonzero(ends != NO_TEXT)
    end = ends[index].astype(np.int64)
    begin = np.concatenate([[0], end[:-1]]) if len(end) else end
    predicted = index > 0
    return index[predicted], begin[predicted], end[predicted]


def _numbers(length: int, index: np.ndarray, begin: np.ndarray, end: np.ndarray, common: np.ndarray) -> np.ndarray:
    """The group of each of ``length`` tokens, from where they begin and the ends that both sides have in common."""
    known = np.maximum.accumulate(begin) if len(begin) else begin  # a token that begins in a character: as the last one
    group = np.searchsorted(common, known, "right") - 1
    group = np.where(group >= len(common) - 1, -1, group)  # no end in common comes after it
    found = np.full(length, -1, np.int64)
    found[index] = group
    return found


def _positions(rows: Sequence[np.ndarray]) -> Tensor:
    """Groups of tokens as groups of the positions that predict them, ``[B, L]``."""
    length = max((len(row) for row in rows), default=0)
    found = np.full((len(rows), length), -1, np.int64)
    for number, row in enumerate(rows):
        found[number, : max(len(row) - 1, 0)] = row[1:]
    return torch.from_numpy(found)
