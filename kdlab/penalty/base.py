"""A penalty on the weights themselves, beside the loss of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Penalty(ABC):
    """Made when the weights are those of the start, before a checkpoint is read.

    Its gradient is added once an optimizer step, after the gradients of all micro-batches and devices came together
    and before they are clipped: so it does not depend on how a batch is cut.

    Attributes:
        active: whether it ever adds anything.
    """

    active: bool = True

    @abstractmethod
    def add(self) -> dict[str, Tensor]:
        """Add the gradient to every parameter that has one; returns the values to log, by name."""
