"""The error rate of characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from kdlab.direction import Directions
from kdlab.metric.text.base import TextScore, Written


def character_error_rate(answers: Sequence[str], references: Sequence[str]) -> float:
    """Substitutions, deletions and insertions of characters, spaces between words included, over all rows, for each
    character of the references; NaN where they have none.

    Source: Levenshtein 1966; computed by jiwer.

    Example:
        >>> character_error_rate(["house"], ["mouse"]), character_error_rate(["我爱"], ["我爱你们"])
        (0.2, 0.5)
    """
    import jiwer

    if not any(text.strip() for text in references):
        return float("nan")
    return float(jiwer.process_characters(list(references), list(answers)).cer)


@final
class Cer(TextScore):
    """See :func:`character_error_rate`."""

    higher_is_better: ClassVar[Directions] = {"cer": False}
    primary = "cer"
    package, module = "jiwer", "jiwer"

    def compute(self, written: Written) -> dict[str, float]:
        return {"cer": character_error_rate(written.answers, written.references)}
