"""The embeddings and the lowest layers are frozen."""

from __future__ import annotations

from kdlab.error import UserError
from kdlab.freeze.base import Freeze
from kdlab.value import Whole


class Bottom(Freeze):
    """The embeddings and the lowest ``layers`` layers are frozen.

    Args:
        layers: their number, from 0 (embeddings only) to the number of layers of the model (only the head learns).
    """

    def __init__(self, layers: Whole) -> None:
        if layers < 0:
            raise UserError(f"freeze.layers={layers} is no number of layers: give 0 or more.")
        self.layers = layers

    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        """See :class:`Freeze`. UserError where the model has fewer layers."""
        if self.layers > blocks - 2:
            raise UserError(
                f"freeze.layers={self.layers}, but the model has {blocks - 2} layers: give at most that "
                "many, or freeze=head."
            )
        return (0.0,) * (self.layers + 1) + (1.0,) * (blocks - self.layers - 1)
