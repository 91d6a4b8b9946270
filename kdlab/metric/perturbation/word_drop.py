"""Words that are left out."""

from __future__ import annotations

from typing import final

import numpy as np

from kdlab.metric.perturbation.base import WORD, Perturbation


def drop_words(text: str, strength: float, random: np.random.Generator) -> str:
    """Each word is left out with a probability, but for one at least.

    Source: Wei, Zou 2019 (EDA), arXiv:1901.11196, section 2 (random deletion).

    Example:
        >>> drop_words("one two three", 1.0, np.random.default_rng(0))
        'one'
        >>> drop_words("one  two", 0.0, np.random.default_rng(0))
        'one  two'
    """
    parts = WORD.split(text)
    words = parts[1::2]
    draws = random.random(len(words))
    kept = draws >= strength
    if kept.all():
        return text
    kept[draws.argmax()] = True
    return " ".join(word for word, stays in zip(words, kept, strict=True) if stays)


@final
class WordDrop(Perturbation):
    """See :func:`drop_words`."""

    reads = "text"

    def change(self, value: str, strength: float, random: np.random.Generator) -> str:
        return drop_words(value, strength, random)
