"""How much answers repeat themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from kdlab.direction import Directions
from kdlab.metric.text.base import TextScore, Written

LENGTH = 4  # tokens of a sequence that is looked for again


def repetition(answers: Sequence[Sequence[int]], length: int = LENGTH) -> float:
    """The share of sequences of ``length`` tokens that were in the same answer before; NaN where no answer has one.

    Source: Welleck et al. 2020, arXiv:1908.04319, section 6 (seq-rep-n), over all answers together.

    Example:
        >>> repetition([[1, 2, 1, 2, 1]], length=2), repetition([[1, 2, 3, 4, 5]])
        (0.5, 0.0)
    """
    parts = [[tuple(row[start : start + length]) for start in range(len(row) - length + 1)] for row in answers]
    every = sum(map(len, parts))
    return 1 - sum(len(set(part)) for part in parts) / every if every else float("nan")


@final
class Repetition(TextScore):
    """See :func:`repetition`."""

    higher_is_better: ClassVar[Directions] = {"repetition": False}
    primary = "repetition"

    def compute(self, written: Written) -> dict[str, float]:
        return {"repetition": repetition(written.tokens)}
