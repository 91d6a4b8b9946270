"""The base of tasks whose models write: they generate an answer to a row, token by token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdlab.batch import Batch
from kdlab.datamodule.batch import EncodedRows, within
from kdlab.datamodule.corpus import PAIR
from kdlab.datamodule.processor.base import Processor
from kdlab.error import UserError
from kdlab.generation import Generated, Sampling
from kdlab.outcome import Tokens
from kdlab.output import Output, at_least_float32
from kdlab.task.base import Task
from kdlab.task.mixture import Mixture
from kdlab.value import LARGEST, Count, Share

if TYPE_CHECKING:
    from kdlab.datamodule.data import Data


TOKENS = 16384  # in a batch of rows whose prompts are measured


class Source(Protocol):
    """Where rows to generate for are from: a data set.

    Attributes:
        values: the raw values of all rows, by row id.
        processor: encodes them, and decodes what is generated.
    """

    values: list[Any]
    processor: Processor

    def encoded_rows(self) -> EncodedRows:
        """All rows, from which batches are made."""
        ...


class GenerativeTask(Task, ABC):
    """A task of tokens whose models generate.

    A row has a prompt, which is given, and an answer, which the loss is about.

    Args:
        label_smoothing: in [0, 1), as in :func:`torch.nn.functional.cross_entropy`.
        chunk: number of positions whose logits are in memory at a time; None: all of a batch.

    Attributes:
        ends: ids of the tokens that end a generated row.
        padding: the id after its end.
    """

    unit = "token"
    uses_labels = False
    counts = "tokens"
    ends: Sequence[int] = ()
    padding: int = 0

    def __init__(self, label_smoothing: Share = 0.0, chunk: Count | None = None) -> None:
        if not 0 <= label_smoothing < 1:
            raise UserError(
                f"task.label_smoothing is {label_smoothing}, but must be in [0, 1): 0 is none, 0.1 is common."
            )
        if chunk is not None and chunk < 1:
            raise UserError(f"task.chunk is {chunk}, but must be 1 or more positions, or null for all at once.")
        self.outcome = Tokens()
        self.label_smoothing, self.chunk = label_smoothing, chunk

    def check_data(self, data: Data) -> None:
        super().check_data(data)
        self.ends, self.padding = data.processor.ends, data.processor.padding

    def prepare(self, labels: Sequence[str], counts: Sequence[int]) -> None:
        """Nothing: the task predicts the tokens themselves."""

    def supervised(self, output: Output, batch: Batch) -> Tensor:
        assert output.label is not None
        logits, label = at_least_float32(output.logits), output.label.clamp(min=0)
        values = cross_entropy(
            logits.flatten(0, -2), label.flatten(), reduction="none", label_smoothing=self.label_smoothing
        )
        return output.mean(values.view(label.shape))

    def scored(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits ``[..., V]`` and the next tokens ``[...]``, -1 where there is none."""
        assert output.label is not None
        return at_least_float32(output.logits), output.label

    @property
    def prompts(self) -> Mapping[str, Any]:
        """The settings that decide which tokens of a row are its prompt."""
        return {}

    @abstractmethod
    def generate(self, model: nn.Module, batch: Batch, sampling: Sampling, mixture: Mixture | None = None) -> Generated:
        """The model's answer to the prompt of each row.

        Args:
            mixture: another model with a share in what is drawn; None: the model draws alone.

        Raises:
            UserError: the model cannot generate, or prompt and answer are longer than it can read.
        """

    def room(self, model: nn.Module, batch: Batch) -> int | None:
        """The most tokens that the model can generate after every prompt of the batch; None: any number."""
        return None

    def longest_prompt(self, model: nn.Module, new: int) -> int | None:
        """The most tokens of a prompt after which the model can generate ``new`` ones; 0 or less: none; None: any."""
        return None

    def prompt_texts(self, batch: Batch, data: Source) -> list[str]:
        """The prompt of each row as text: by default its value in the data, of a pair of texts the first."""
        return [str(data.values[row]).partition(PAIR)[0] for row in batch.row.tolist()]

    @abstractmethod
    def reference(self, batch: Batch) -> Generated:
        """The answer of each row in the data."""

    @abstractmethod
    def with_answers(self, batch: Batch, answers: Generated) -> Batch:
        """The prompts of the batch with other answers, such as a model's own.

        It is no part of a step: means over it divide by its own number of tokens.
        """


def least_room(task: GenerativeTask, encoded: EncodedRows, rows: np.ndarray, model: nn.Module, new: int) -> int:
    """The number of tokens that the model can generate after the longest prompt of the rows; at most ``new``.

    Rows that are short as a whole are not looked at.

    Args:
        rows: ids.
        new: tokens that are wanted.
    """
    most = task.longest_prompt(model, new)
    long = rows[encoded.rows.lengths[rows] > (LARGEST if most is None else most)]
    device = next(model.parameters()).device
    found = (task.room(model, batch.to(device)) for batch in within(encoded, long, TOKENS))
    return min([new, *(room for room in found if room is not None)])


def last_run(marked: Tensor) -> tuple[Tensor, Tensor]:
    """Where the last run of True of each row begins and ends.

    Args:
        marked: ``[B, L]`` bool.

    Returns:
        ``[B]`` int64 twice: the index of the first True of the run, and the index after its last; both L in rows
        without any.

    Example:
        >>> [one.tolist() for one in last_run(torch.tensor([[True, False, True, True], [False, False, False, False]]))]
        [[2, 4], [4, 4]]
    """
    length = marked.shape[1]
    place = torch.arange(length, device=marked.device)
    before = torch.nn.functional.pad(marked, (1, 0))[:, :-1]
    after = torch.nn.functional.pad(marked, (0, 1))[:, 1:]
    first = (place + 1).where(marked & ~before, 0).amax(1) - 1
    last = (place + 1).where(marked & ~after, 0).amax(1)
    some = marked.any(1)
    return first.where(some, length), last.where(some, length)
