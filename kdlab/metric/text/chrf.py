"""chrF: the n-grams of characters that all answers share with their references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from kdlab.direction import Directions
from kdlab.metric.text.base import TextScore, Written


def chrf(answers: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Corpus chrF2 with n-grams up to 6 characters, from 0 to 100, and sacrebleu's signature of it; NaN of no rows.

    Source: Popović 2015, W15-3049; computed by sacrebleu.

    Example:
        >>> value, signature = chrf(["the cat"], ["the cat sat"])
        >>> round(value, 2), signature.rpartition("|")[0]
        (55.77, 'nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no')
    """
    from sacrebleu.metrics import CHRF

    if not answers:
        return float("nan"), ""
    metric = CHRF()
    return float(metric.corpus_score(list(answers), [list(references)]).score), str(metric.get_signature())


@final
class Chrf(TextScore):
    """See :func:`chrf`."""

    higher_is_better: ClassVar[Directions] = {"chrf": True}
    primary = "chrf"
    package, module = "sacrebleu", "sacrebleu"

    def compute(self, written: Written) -> dict[str, float]:
        value, self.signature = chrf(written.answers, written.references)
        return {"chrf": value}
