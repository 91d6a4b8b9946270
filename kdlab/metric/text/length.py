"""How long answers are beside their references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from kdlab.direction import Directions
from kdlab.metric.text.base import TextScore, Written


def length_ratio(answers: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> float:
    """The tokens of all answers for each token of the references; NaN where these have none.

    Example:
        >>> length_ratio([[5, 6], [7]], [[5, 6], [7, 8, 9, 1]])
        0.5
    """
    every = sum(map(len, references))
    return sum(map(len, answers)) / every if every else float("nan")


@final
class Length(TextScore):
    """See :func:`length_ratio`."""

    higher_is_better: ClassVar[Directions] = {"length_ratio": None}
    primary = "length_ratio"

    def compute(self, written: Written) -> dict[str, float]:
        return {"length_ratio": length_ratio(written.tokens, written.expected)}
