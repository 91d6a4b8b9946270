"""How to read a model on a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from torch import Tensor, nn

from kdlab.output import Batch, Output


class Task(ABC):
    """Reads models, knows labels, padding and heads, and holds the supervised loss.

    Attributes:
        multi_label: whether a row may have several labels.
    """

    multi_label: bool

    @abstractmethod
    def prepare(self, labels: Sequence[str], counts: Sequence[int]) -> None:
        """Learn the label names and how many labelled training rows each has. Called once, before any other method."""

    @abstractmethod
    def attach(self, model: nn.Module) -> nn.Module:
        """Give a freshly built model the task's head and label names; returns the model."""

    @abstractmethod
    def read(self, model: nn.Module, batch: Batch, taps: Collection[str] = ()) -> Output:
        """Run the model; compute only the taps that are asked for."""

    @abstractmethod
    def supervised(self, output: Output, batch: Batch) -> Tensor:
        """The loss against the labels: a scalar over the labelled rows, 0 where a batch has none."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """``[..., C]`` in [0, 1]: what metrics are fed."""
