"""Which parameters learn, when, and at which learning rate."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn


class Freeze(ABC):
    """A policy is one pure function of depth and time, and, where it chooses inside of blocks, one of a parameter."""

    @abstractmethod
    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        """The learning-rate factor of each block, from the bottom (embeddings, layer 0, …, head); 0 freezes it.

        Args:
            blocks: how many blocks the model has, embeddings and head included.
            progress: in [0, 1]. What is 0 at every progress never reaches the optimizer.
        """

    def learns(self, module: nn.Module, name: str) -> bool:
        """Whether a parameter learns while its block does; not asked of the head, which learns as a whole.

        Args:
            module: the one that holds the parameter itself.
            name: the parameter's in that module, such as ``bias``.
        """
        return True
