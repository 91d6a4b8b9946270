"""The base of tasks whose models write: they generate an answer to a row, token by token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.generation import Generated, Sampling
from kdlab.task.base import Task

if TYPE_CHECKING:
    from kdlab.datamodule.data import Data


class GenerativeTask(Task, ABC):
    """A task of tokens whose models generate.

    A row has a prompt, which is given, and an answer, which the loss is about.

    Attributes:
        ends: ids of the tokens that end a generated row.
        padding: the id after its end.
    """

    unit = "token"
    uses_labels = False
    counts = "tokens"
    ends: Sequence[int] = ()
    padding: int = 0

    def check_data(self, data: Data) -> None:
        super().check_data(data)
        self.ends, self.padding = data.processor.ends, data.processor.padding

    @abstractmethod
    def generate(self, model: nn.Module, batch: Batch, sampling: Sampling) -> Generated:
        """The model's answer to the prompt of each row.

        Raises:
            UserError: the model cannot generate, or prompt and answer are longer than it can read.
        """

    @abstractmethod
    def reference(self, batch: Batch) -> Generated:
        """The answer of each row in the data."""

    @abstractmethod
    def with_answers(self, batch: Batch, answers: Generated) -> Batch:
        """The prompts of the batch with other answers, such as a model's own.

        It is no part of a step: means over it divide by its own number of tokens.
        """


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
