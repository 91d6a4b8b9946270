"""BLEU: the n-grams of all answers that are in their references, with a penalty for short answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from kdlab.direction import Directions
from kdlab.metric.text.base import TextScore, Written
from kdlab.metric.text.words import chinese


def bleu(answers: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Corpus BLEU with n-grams up to 4, from 0 to 100, and sacrebleu's signature of it; NaN of no rows.

    Words are those of mteval-v13a, or in Chinese references each character.

    Source: Papineni et al. 2002, P02-1040; Post 2018, arXiv:1804.08771; computed by sacrebleu.

    Example:
        >>> value, signature = bleu(["the cat sat on the mat"], ["the cat sat on a mat"])
        >>> round(value, 2), signature.rpartition("|")[0]
        (53.73, 'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp')
    """
    from sacrebleu.metrics import BLEU

    if not answers:
        return float("nan"), ""
    metric = BLEU(tokenize="zh" if chinese(references) else "13a")
    return float(metric.corpus_score(list(answers), [list(references)]).score), str(metric.get_signature())


@final
class Bleu(TextScore):
    """See :func:`bleu`."""

    higher_is_better: ClassVar[Directions] = {"bleu": True}
    primary = "bleu"
    package, module = "sacrebleu", "sacrebleu"

    def compute(self, written: Written) -> dict[str, float]:
        value, self.signature = bleu(written.answers, written.references)
        return {"bleu": value}
