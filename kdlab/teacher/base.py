"""Where knowledge comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import ClassVar, Protocol

from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.output import Output
from kdlab.task.base import Task


class Saved(Protocol):
    """A trained model on disk, which is loaded when it is first asked for."""

    @property
    def id(self) -> str:
        """What people call it."""
        ...

    @property
    def model(self) -> nn.Module:
        """The model, in eval mode."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of its weights and its shape, known without loading it."""
        ...


class Teacher(ABC):
    """One call. A frozen teacher is never a registered submodule of the training module."""

    higher_is_better: ClassVar[dict[str, bool | None]] = {"perf/teacher_seconds": False}
    seconds: float = 0.0  # what a teacher pass before training took
    learns: bool = False  # whether it has to be trained together with the student
    follows: bool = False  # whether it takes in the student's weights as they change
    chunks: bool = False  # whether it can be asked for some positions at a time
    top_k: int | None = None  # how many of its largest logits it gives; None: all

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """The models that a training rule could train together with the student, by name."""
        return {}

    def follow(self, student: nn.Module, progress: float) -> None:  # noqa: B027  most stay as they are
        """Take in the student's weights; called after each optimizer step."""

    def state(self) -> dict[str, Tensor]:
        """What has to be in a checkpoint besides the student."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Go on from what :meth:`state` gave."""

    @classmethod  # noqa: B027  most kinds take every tap
    def accept(cls, taps: Collection[str]) -> None:
        """Refuse taps that this kind of teacher never offers; asked before a teacher is found or trained.

        Raises:
            UserError: such a tap.
        """

    @abstractmethod
    def read(self, task: Task, batch: Batch) -> Output:
        """What the teacher says about the rows of the batch, detached."""

    @abstractmethod
    def widths(self) -> Mapping[str, int]:
        """The width (last dimension) of each tap that it offers."""
