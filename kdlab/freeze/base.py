"""Freezing policies: which parameters learn, when, and at which learning rate."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn


class Freeze(ABC):
    """A pure function of depth and progress, and, where a policy chooses inside of blocks, one of a parameter.

    Example:
        >>> from kdlab.freeze.gradual import Gradual
        >>> policy = Gradual(until=0.5)
        >>> policy.scales(4, progress=0.0), policy.scales(4, progress=0.5)
        ((0.0, 0.0, 0.0, 1.0), (1.0, 1.0, 1.0, 1.0))
    """

    @abstractmethod
    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        """The learning-rate factor of each block, from the bottom (embeddings, layer 0, …, head); 0 freezes it.

        Args:
            blocks: the number of blocks of the model, embeddings and head included.
            progress: in [0, 1]. A block whose factor is 0 at every progress is not in the optimizer.
        """

    def learns(self, module: nn.Module, name: str) -> bool:
        """Whether a parameter learns while its block does; not called for the head, which learns as a whole.

        Args:
            module: the module that holds the parameter.
            name: the name of the parameter in that module, such as ``bias``.
        """
        return True
