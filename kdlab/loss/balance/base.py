"""Factors of the parts of the loss, beside alpha and the weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class Balance(nn.Module, ABC):
    """Adds up the parts of a loss: the supervised one and each term.

    The parts come as they are; ``share`` holds what alpha and the weights give each, and keeps its meaning: it says how
    much a part matters once the parts are balanced.

    Attributes:
        asks_model: whether it looks at the gradients of the student's weights, which :meth:`watch` gives it.
    """

    asks_model: bool = False

    def connect(self, names: Sequence[str]) -> None:
        """Receive the names of all parts that ever count. Called once, before the optimizer is made."""

    def watch(self, model: nn.Module) -> None:
        """Receive the model that learns. Called once."""

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's parameter groups of what is learned here."""
        return []

    @property
    def current(self) -> dict[str, Tensor]:
        """By part, what its share was last multiplied by, for the log."""
        return {}

    @abstractmethod
    def forward(self, parts: Mapping[str, Tensor], share: Mapping[str, float | Tensor], progress: float) -> Tensor:
        """The total of a batch, a scalar.

        Args:
            parts: a scalar each.
            share: by the same names; 0 where a part does not count at this time.
        """
