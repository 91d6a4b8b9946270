"""The rows of a data set with other answers to the prompts of its training rows, such as those that a teacher wrote."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.datamodule.batch import EncodedRows, within
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.base import Encoded
from kdlab.generation import Generated
from kdlab.task.generative import GenerativeTask

TOKENS = 16384  # in a batch of the pass that counts them


@dataclass(frozen=True)
class Answers:
    """The tokens of an answer to each of some rows.

    Attributes:
        tokens: ``[N, T]`` integers, by row id; padding follows the tokens of a row.
        lengths: ``[N]`` integers, how many tokens each answer has.
        rows: ids of the rows that have one.

    Example:
        >>> found = Answers(np.array([[0, 0], [5, 6], [7, 0]]), np.array([0, 2, 1]), np.array([1, 2]))
        >>> found.of(np.array([2, 1])).rows()
        [[7], [5, 6]]
    """

    tokens: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray

    def of(self, index: np.ndarray) -> Generated:
        """The answers to the rows ``index``."""
        lengths = torch.from_numpy(np.asarray(self.lengths[index], np.int64))
        tokens = torch.from_numpy(np.asarray(self.tokens[index, : max(1, int(lengths.max()))], np.int64))
        return Generated(tokens, torch.arange(tokens.shape[1]) < lengths[:, None])


@final
class WrittenRows(Encoded):
    """Rows of which some have the answers that they are given, and the others those of the data.

    Args:
        rows: those of the data.
        task: puts the answers in their place.
        answers: to some of the rows.
    """

    def __init__(self, rows: EncodedRows, task: GenerativeTask, answers: Answers) -> None:
        self.inner, self.task, self.written = rows.rows, task, answers
        self.has = np.zeros(len(rows.rows), bool)
        self.has[answers.rows] = True
        self.lengths, self._predictions = rows.rows.lengths.copy(), rows.rows.predictions.copy()
        for batch in within(rows, answers.rows, TOKENS):
            made = task.with_answers(batch, answers.of(batch.row.numpy()))
            assert made.tokens is not None
            self.lengths[batch.row.numpy()] = made.tokens.sum(1).numpy()
        self._predictions[answers.rows] = answers.lengths[answers.rows]
        self._last = Made(b"")

    @property
    def costs(self) -> np.ndarray:
        return self.inner.costs + self.lengths - self.inner.lengths

    @property
    def predictions(self) -> np.ndarray:
        return self._predictions

    def collate(self, index: np.ndarray) -> tuple[dict[str, Tensor], Tensor | None]:
        made = self._made(index)
        return made.inputs, made.tokens

    def answers(self, index: np.ndarray, length: int) -> dict[str, Tensor]:
        return self._made(index).target

    def _made(self, index: np.ndarray) -> Made:
        """The inputs and targets of some rows; those of the last rows that were asked for are kept."""
        address = index.tobytes()
        if self._last.address != address:
            inputs, tokens = self.inner.collate(index)
            target = self.inner.answers(index, 0 if tokens is None else tokens.shape[1])
            made = Made(address, inputs, target, tokens)
            self._last = self._rewritten(made, index) if self.has[index].any() else made
        return self._last

    def _rewritten(self, data: Made, index: np.ndarray) -> Made:
        """Rows that have an answer with it, and the others as they are, which only a pass over all rows mixes."""
        assert data.tokens is not None
        batch = Batch(torch.from_numpy(index), data.inputs, data.target, tokens=data.tokens)
        new = self.task.with_answers(batch, self.written.of(index))
        assert new.tokens is not None
        has = torch.from_numpy(self.has[index])
        if has.all():
            return Made(data.address, new.inputs, new.target, new.tokens)
        inputs = {name: merged(has, value, data.inputs[name]) for name, value in new.inputs.items()}
        target = {name: merged(has, value, data.target.get(name, data.tokens)) for name, value in new.target.items()}
        return Made(data.address, inputs, target, merged(has, new.tokens, data.tokens))


@dataclass(frozen=True)
class Made:
    """Inputs, targets and real positions of the rows whose ids are ``address``."""

    address: bytes
    inputs: dict[str, Tensor] = field(default_factory=dict)
    target: dict[str, Tensor] = field(default_factory=dict)
    tokens: Tensor | None = None


def merged(first: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """The rows of ``one`` where ``first`` is True, else those of ``other``, padded with 0 to the same length.

    Args:
        first: ``[B]`` bool.
        one, other: ``[B, L, ...]``, each of its own length.

    Example:
        >>> merged(torch.tensor([True, False]), torch.tensor([[1], [2]]), torch.tensor([[3, 4], [5, 6]])).tolist()
        [[1, 0], [5, 6]]
    """
    length = max(one.shape[1], other.shape[1])
    result = one.new_zeros(len(first), length, *one.shape[2:])
    result[first, : one.shape[1]] = one[first]
    result[~first, : other.shape[1]] = other[~first].to(one.dtype)
    return result


def rewritten(data: Data, task: GenerativeTask, answers: Answers, digest: str) -> Data:
    """The same data with other answers to some of its rows; ``data`` itself stays as it is.

    Args:
        digest: of all that decides the answers.
    """
    found, encoded = copy.copy(data), data.encoded_rows()
    found.encoded = replace(encoded, rows=WrittenRows(encoded, task, answers))
    found.fingerprint = hashlib.sha256(f"{data.fingerprint} {digest}".encode()).hexdigest()[:32]
    return found
