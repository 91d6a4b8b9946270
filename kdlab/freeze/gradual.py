"""Blocks begin to learn one after the other, the head first."""

from __future__ import annotations

from kdlab.error import UserError
from kdlab.freeze.base import Freeze
from kdlab.value import Fraction


class Gradual(Freeze):
    """At first only the head learns; then one more block at a time, from the top, at equal intervals.

    Args:
        until: the progress in [0, 1] from which on everything learns.

    Source: Howard, Ruder 2018, arXiv:1801.06146, section 3.3 (one block an epoch).
    """

    def __init__(self, until: Fraction) -> None:
        if not 0 <= until <= 1:
            raise UserError(f"freeze.until={until} is no progress: give a number from 0 to 1, such as 0.5.")
        self.until = until

    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        learning = blocks if progress >= self.until else 1 + int(progress / self.until * (blocks - 1))
        return (0.0,) * (blocks - learning) + (1.0,) * learning
