"""The answers of rows, which predictions are compared with."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from kdlab.datamodule.corpus import labelled

CLASS, NUMBER = "class", "number"


@dataclass(frozen=True)
class Target(ABC):
    """The answers of all rows.

    Attributes:
        unit: the owner of an answer: a ``row``, or a ``token`` or the like of each row.
        kind: what an answer is: :data:`CLASS` or :data:`NUMBER`.
        names: of the answers, in the order of the logits.
        codes: class numbers ``[N]`` int64, or yes and no ``[N, C]`` float32, by which rows are stratified and chosen;
            -1 where a row has no answer.
    """

    unit: ClassVar[str] = "row"
    kind: ClassVar[str] = CLASS
    names: tuple[str, ...]
    codes: np.ndarray

    @property
    def several(self) -> bool:
        """Whether a row may have several answers at once."""
        return self.codes.ndim > 1

    @cached_property
    def known(self) -> np.ndarray:
        """``[N]`` bool: which rows have an answer."""
        return labelled(self.codes)

    def hidden(self, rows: np.ndarray) -> Target:
        """The same without the answers of some rows."""
        codes = self.codes.copy()
        codes[rows] = -1
        return replace(self, codes=codes)

    def unanswered(self, names: Sequence[str]) -> Target:
        """The same rows, all without an answer, where the answers have these names.

        Example:
            >>> Labels((), np.array([-1, -1])).unanswered(["no", "yes"])
            Labels(names=('no', 'yes'), codes=array([-1, -1]))
        """
        shape = (len(self.codes), len(names)) if self.several else (len(self.codes),)
        return replace(self, names=tuple(names), codes=np.full(shape, -1, self.codes.dtype))

    @abstractmethod
    def batch(self, index: np.ndarray, length: int) -> dict[str, Tensor]:
        """The answers of the rows ``index``, as tensors by name.

        Args:
            length: positions of the batch's token axis, padding included.
        """

    def flat(self, rows: np.ndarray) -> np.ndarray:
        """The answers of the rows one after the other: by default one a row."""
        return self.codes[rows]

    def answers(self, rows: np.ndarray) -> int:
        """The number of predictions of the rows that have an answer: by default one for each row with an answer."""
        return int(np.count_nonzero(self.known[rows]))

    @abstractmethod
    def counts(self, rows: np.ndarray) -> list[int]:
        """The number of answers of each name in the rows that have one."""

    @abstractmethod
    def answer(self, row: int) -> list[str]:
        """The answer of a row by name; empty: it has none."""


@final
@dataclass(frozen=True)
class Labels(Target):
    """One class a row, or several labels: ``label`` ``[B]`` int64, or ``[B, C]`` float32."""

    def batch(self, index: np.ndarray, length: int) -> dict[str, Tensor]:
        return {"label": torch.from_numpy(self.codes[index])}

    def counts(self, rows: np.ndarray) -> list[int]:
        codes = self.codes[rows[self.known[rows]]]
        found = codes.sum(0).astype(int) if self.several else np.bincount(codes, minlength=len(self.names))
        return list(found.tolist())

    def answer(self, row: int) -> list[str]:
        code = self.codes[row]
        if self.several:
            return [name for name, yes in zip(self.names, code, strict=True) if yes == 1]
        return [self.names[code]] if code >= 0 else []


@final
@dataclass(frozen=True)
class Numbers(Target):
    """One real number a row: ``label`` ``[B]`` float32, nan where a row has none.

    Attributes:
        values: ``[N]`` float32.

    Example:
        >>> found = Numbers.of(np.array([1.5, np.nan], np.float32))
        >>> found.batch(np.array([1, 0]), 0)["label"].tolist(), found.answer(0)
        ([nan, 1.5], ['1.5'])
    """

    kind: ClassVar[str] = NUMBER
    values: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @classmethod
    def of(cls, values: np.ndarray) -> Numbers:
        """The numbers of all rows; nan: a row has none."""
        return cls((NUMBER,), np.where(np.isnan(values), -1, 0).astype(np.int64), values)

    def batch(self, index: np.ndarray, length: int) -> dict[str, Tensor]:
        found = np.where(self.codes[index] >= 0, self.values[index], np.nan).astype(np.float32)
        return {"label": torch.from_numpy(found)}

    def counts(self, rows: np.ndarray) -> list[int]:
        return [self.answers(rows)]

    def answer(self, row: int) -> list[str]:
        return [repr(float(self.values[row]))] if self.codes[row] >= 0 else []


@final
@dataclass(frozen=True)
class Tags(Target):
    """One class for each position of a row's token axis: ``label`` ``[B, L]`` int64, -1 where there is none.

    Attributes:
        tags: the class numbers of each row's positions, -1 where a position has none.

    Example:
        >>> found = Tags.of(["O", "B"], [[0, 1], [0]])
        >>> found.batch(np.array([1, 0]), 3)["label"].tolist()
        [[0, -1, -1], [0, 1, -1]]
    """

    unit: ClassVar[str] = "token"
    tags: tuple[np.ndarray, ...] = ()

    @classmethod
    def of(cls, names: Sequence[str], tags: Sequence[Sequence[int] | None]) -> Tags:
        """The tags of all rows; None: a row has none."""
        codes = np.array([-1 if row is None else 0 for row in tags], np.int64)
        return cls(tuple(names), codes, tuple(np.asarray(row or [], np.int64) for row in tags))

    def batch(self, index: np.ndarray, length: int) -> dict[str, Tensor]:
        found = np.full((len(index), length), -1, np.int64)
        for position, row in enumerate(index.tolist()):
            if self.codes[row] >= 0:
                tags = self.tags[row][:length]
                found[position, : len(tags)] = tags
        return {"label": torch.from_numpy(found)}

    def flat(self, rows: np.ndarray) -> np.ndarray:
        known = [self.tags[row] for row in rows.tolist() if self.codes[row] >= 0]
        return np.concatenate([np.zeros(0, np.int64), *known])

    def answers(self, rows: np.ndarray) -> int:
        return sum(self.counts(rows))

    def counts(self, rows: np.ndarray) -> list[int]:
        flat = self.flat(rows)
        return list(np.bincount(flat[flat >= 0], minlength=len(self.names)).tolist())

    def answer(self, row: int) -> list[str]:
        return [self.names[tag] if tag >= 0 else "" for tag in self.tags[row]] if self.codes[row] >= 0 else []


def digest(target: Target, keys: Sequence[str], rows: np.ndarray) -> str:
    """A hash of some rows, contents and answers, whatever their order.

    Args:
        keys: the identity of the content of each row of the data.
    """
    found = sorted(
        hashlib.sha256(json.dumps([keys[row], [name for name in target.answer(row) if name]]).encode()).hexdigest()
        for row in rows.tolist()
    )
    return hashlib.sha256("".join(found).encode()).hexdigest()[:12]
