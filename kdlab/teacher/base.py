"""A teacher: one call that returns its output on a batch, whether it runs, or its outputs were stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import ClassVar, Protocol

from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.processor.base import Processor
from kdlab.output import Output
from kdlab.task.base import Task

SECONDS = "perf/teacher_seconds"  # of a teacher pass before training, as it is logged


class Saved(Protocol):
    """A trained model on disk, which is loaded when ``model`` is first read."""

    @property
    def id(self) -> str:
        """The id of its run, or the name of its folder."""
        ...

    @property
    def model(self) -> nn.Module:
        """The model, in eval mode."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of its weights and its shape, computed without loading it."""
        ...


class Teacher(ABC):
    """Returns an :class:`kdlab.output.Output` for each batch. It is no registered submodule of the training rule.

    Attributes:
        higher_is_better: the directions of values that are logged of every teacher.
        seconds: the time that a pass over all rows before training took.
        learns: whether it has to be trained together with the student.
        follows: whether it takes over the student's weights as they change.
        chunks: whether its logits can be made for some positions at a time.
        top_k: the number of largest logits that it returns; None: all.
        reads_new_rows: whether it reads rows that are not in the data, such as texts that a student writes.
        running: the option of the teacher that reads such rows in its place.
        other_tokens: whether its outputs are of other tokens than the student's, with an alignment.
        processor: makes the rows that it reads, where they have other tokens; None: the data's.
        needs_classes: whether it computes with probabilities, which a task of numbers does not have.

    Example: a teacher that is sure of the first class:
        >>> import torch
        >>> from kdlab.task.sequence_classification import SequenceClassification
        >>> class First(Teacher):
        ...     def read(self, task, batch):
        ...         return task.frame(torch.tensor([[9.0, 0.0]]).expand(len(batch), 2), batch)
        ...
        ...     def widths(self):
        ...         return {}
        >>> batch = Batch(torch.arange(3), {"input_ids": torch.ones(3, 4)})
        >>> First().read(SequenceClassification(), batch).logits.argmax(-1)
        tensor([0, 0, 0])
    """

    higher_is_better: ClassVar[dict[str, bool | None]] = {SECONDS: False}
    seconds: float = 0.0
    learns: bool = False
    follows: bool = False
    chunks: bool = False
    top_k: int | None = None
    reads_new_rows: bool = True
    running: ClassVar[str] = "live"
    other_tokens: bool = False
    processor: Processor | None = None
    needs_classes: bool = False

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """The models that a training rule could train together with the student, by name."""
        return {}

    def follow(self, student: nn.Module, progress: float) -> None:  # noqa: B027  most have nothing to do
        """Take over the student's weights; called after each optimizer step."""

    def state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint needs besides the student."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Restore what :meth:`state` returned."""

    @classmethod  # noqa: B027  most kinds take every tap
    def accept(cls, taps: Collection[str]) -> None:
        """Check that this kind of teacher offers the taps; called before a teacher is found or trained.

        Raises:
            UserError: a tap that it never offers.
        """

    @abstractmethod
    def read(self, task: Task, batch: Batch) -> Output:
        """The teacher's output on the rows of the batch, detached."""

    @abstractmethod
    def widths(self) -> Mapping[str, int]:
        """The width (last dimension) of each tap that it offers."""
