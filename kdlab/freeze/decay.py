"""The lower the block, the smaller its learning rate."""

from __future__ import annotations

from kdlab.error import UserError
from kdlab.freeze.base import Freeze
from kdlab.value import NonNegative


class Decay(Freeze):
    """Each block learns at ``factor`` times the learning rate of the block above it; the head at the full one.

    Args:
        factor: in (0, 1]; 0.95 is usual, 1 / 2.6 in the source.

    Source: Howard, Ruder 2018, arXiv:1801.06146, section 3.2 (discriminative fine-tuning).
    """

    def __init__(self, factor: NonNegative) -> None:
        if not 0 < factor <= 1:
            raise UserError(f"freeze.factor={factor} is outside (0, 1]: give for example 0.9 (1 is no decay).")
        self.factor = factor

    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        return tuple(self.factor ** (blocks - 1 - index) for index in range(blocks))
