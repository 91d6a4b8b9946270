"""The base of tasks: the answers that a model predicts, how it is run on a batch, and the supervised loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.target import CLASS
from kdlab.error import UserError
from kdlab.outcome import Outcome
from kdlab.output import Output

if TYPE_CHECKING:
    from kdlab.datamodule.data import Data


class Task(ABC):
    """Reads models, and has the label names, the head and the supervised loss.

    Attributes:
        outcome: the meaning of a vector of logits; it has its names after :meth:`prepare`.
        unit: the owner of a vector of logits: a ``row``, or a ``token`` or the like of each row.
        answers: what an answer of the data is: :data:`kdlab.datamodule.target.CLASS` or ``NUMBER``.
        uses_labels: whether the task predicts the labels of the data; otherwise they are not read.
        counts: the name of the batch's size that is the number of predictions.
        kind: of the models that fit it, as model factories and transformers call it.
        chunk: number of positions whose logits are in memory at a time; None: all.
        reads_packs: whether it tells the texts of a packed row apart.

    Example: two equal logits are the loss log 2:
        >>> import torch
        >>> from kdlab.task.sequence_classification import SequenceClassification
        >>> task = SequenceClassification()
        >>> task.prepare(["bad", "good"], [1, 1])
        >>> batch = Batch(torch.arange(1), {}, {"label": torch.tensor([1])})
        >>> output = task.frame(torch.zeros(1, 2), batch)
        >>> round(float(task.supervised(output, batch)), 4)
        0.6931
    """

    outcome: Outcome
    unit: str = "row"
    answers: str = CLASS
    uses_labels: bool = True
    counts: str = "rows"
    kind: str
    chunk: int | None = None
    reads_packs: bool = False

    def check_data(self, data: Data) -> None:
        """Refuse data that has not the answers that the task is about. Called before :meth:`prepare`.

        Raises:
            UserError: the answers belong to something else than the task's predictions, or to tokens that rows lack.
        """
        if data.packs and not self.reads_packs:
            raise UserError(
                f"datamodule.pack=true joins texts, which task={self.option()} cannot tell apart: use task=causal_lm, "
                "or set datamodule.pack=false"
            )
        if self.uses_labels and (self.unit == "row") != (data.target.unit == "row"):
            raise UserError(
                f"{type(self).__name__} predicts one answer for each {self.unit}, but {data.source} has one for each "
                f"{data.target.unit}: choose a task whose unit is '{data.target.unit}', or a data set with an answer "
                f"for each {self.unit} (kdlab help guide/own_tags)"
            )
        if self.uses_labels and self.answers != data.target.kind:
            raise UserError(
                f"{type(self).__name__} predicts one {self.answers} for each {self.unit}, but {data.source} has a "
                f"{data.target.kind}: choose a task of such answers, or another data set (kdlab help guide/tasks)"
            )
        if self.uses_labels and data.target.unit == "token" and data.every_row(1)[0].tokens is None:
            raise UserError(
                f"{data.source} has an answer for each token, but its rows have no token axis: let "
                f"{type(data.processor).__name__} return which positions are real as the second result of `collate` "
                "(kdlab help guide/own_tags)"
            )

    @classmethod
    def option(cls) -> str:
        """The name of the task's option in the group ``task``, for messages: that of its file."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def prepare(self, labels: Sequence[str], counts: Sequence[int]) -> None:
        """Take the label names, and the number of labelled training rows of each. Called once, before all but
        :meth:`check_data`."""

    @abstractmethod
    def attach(self, model: nn.Module) -> nn.Module:
        """Give a freshly built model the task's head and label names; returns the model."""

    @abstractmethod
    def read(self, model: nn.Module, batch: Batch, taps: Collection[str] = ()) -> Output:
        """Run the model; compute only the taps that are asked for."""

    def in_parts(self, model: nn.Module) -> Task:
        """The task that reads the model without its head, so that logits can be made for some positions at a time; the
        task itself where logits are no concern or the model does not allow it."""
        return self

    @abstractmethod
    def frame(self, logits: Tensor, batch: Batch) -> Output:
        """The output for given logits, with mask, labels and row ids of the batch."""

    @abstractmethod
    def supervised(self, output: Output, batch: Batch) -> Tensor:
        """The loss against the labels: a scalar over the labelled rows, 0 where a batch has none."""

    @abstractmethod
    def scored(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
        """The arguments of metrics: predictions, and the targets of all rows or tokens."""
