"""The error rate of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from kdlab.direction import Directions
from kdlab.metric.text.base import TextScore, Written
from kdlab.metric.text.words import apart


def error_rate(answers: Sequence[str], references: Sequence[str]) -> float:
    """Substitutions, deletions and insertions of symbols that spaces separate, over all rows, for each symbol of the
    references: 0 where all are equal; above 1 where answers are much too long; NaN where references have no symbols.

    Source: Levenshtein 1966; computed by jiwer.

    Example:
        >>> error_rate(["a b", "x y"], ["a c d", "x"])  # a substitution, a deletion and an insertion; four symbols
        0.75
    """
    import jiwer

    if not any(text.split() for text in references):
        return float("nan")
    return float(jiwer.process_words(list(references), list(answers)).wer)


@final
class Wer(TextScore):
    """See :func:`error_rate`; each Chinese or Japanese character is a word."""

    higher_is_better: ClassVar[Directions] = {"wer": False}
    primary = "wer"
    package, module = "jiwer", "jiwer"

    def compute(self, written: Written) -> dict[str, float]:
        return {"wer": error_rate([*map(apart, written.answers)], [*map(apart, written.references)])}
