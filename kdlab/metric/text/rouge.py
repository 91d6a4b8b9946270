"""ROUGE: the words, pairs of words and longest common sequence that an answer shares with its reference."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import final

from kdlab.metric.text.base import TextScore, Written
from kdlab.metric.text.words import words

KINDS = ("rouge1", "rouge2", "rougeL")


class Words:
    """The tokenizer that the library is given: its own removes all but ASCII letters and digits."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def rouge(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The mean F1 over rows of ROUGE-1, ROUGE-2 and ROUGE-L, in [0, 1], without stemming; NaN of no rows.

    Source: Lin 2004, ROUGE: a package for automatic evaluation of summaries, W04-1013; computed by rouge-score.

    Example:
        >>> {name: round(value, 3) for name, value in rouge(["the cat sat"], ["the cat sat down"]).items()}
        {'rouge1': 0.857, 'rouge2': 0.8, 'rougeL': 0.857}
    """
    from absl import logging
    from rouge_score.rouge_scorer import RougeScorer

    # a log handler of the library closes its stream when logging is set up anew, unless it is the process's own
    logging.get_absl_handler().python_handler.stream = sys.__stderr__
    scorer = RougeScorer(list(KINDS), tokenizer=Words())
    found = [scorer.score(reference, answer) for answer, reference in zip(answers, references, strict=True)]
    if not found:
        return dict.fromkeys(KINDS, float("nan"))
    return {kind: float(sum(one[kind].fmeasure for one in found) / len(found)) for kind in KINDS}


@final
class Rouge(TextScore):
    """See :func:`rouge`."""

    higher_is_better = dict.fromkeys(KINDS, True)
    primary = "rougeL"
    package, module = "rouge-score", "rouge_score"

    def compute(self, written: Written) -> dict[str, float]:
        return rouge(written.answers, written.references)
