"""The share of answers that are the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from kdlab.direction import Directions
from kdlab.metric.text.base import TextScore, Written


def exact_match(answers: Sequence[str], references: Sequence[str]) -> float:
    """The share of answers that equal their reference but for spaces at the ends and runs of spaces; NaN of none.

    Example:
        >>> exact_match(["yes", "no "], ["yes", " no"]), exact_match(["Yes"], ["yes"])
        (1.0, 0.0)
    """
    equal = [one.split() == other.split() for one, other in zip(answers, references, strict=True)]
    return sum(equal) / len(equal) if equal else float("nan")


@final
class ExactMatch(TextScore):
    """See :func:`exact_match`."""

    higher_is_better: ClassVar[Directions] = {"exact_match": True}
    primary = "exact_match"

    def compute(self, written: Written) -> dict[str, float]:
        return {"exact_match": exact_match(written.answers, written.references)}
