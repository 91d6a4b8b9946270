"""Words in another order."""

from __future__ import annotations

from typing import final

import numpy as np

from kdlab.metric.perturbation.base import WORD, Perturbation


def swap_words(text: str, strength: float, random: np.random.Generator) -> str:
    """Each word changes places with the next one with a probability; from left to right, so a word may move far.

    Source: Wei, Zou 2019 (EDA), arXiv:1901.11196, section 2 (random swap, here of neighbours).

    Example:
        >>> swap_words("one two three", 1.0, np.random.default_rng(0))
        'two three one'
        >>> swap_words("one  two", 0.0, np.random.default_rng(0))
        'one  two'
    """
    parts = WORD.split(text)
    places = range(1, len(parts) - 2, 2)
    for place, draw in zip(places, random.random(len(places)), strict=True):
        if draw < strength:
            parts[place], parts[place + 2] = parts[place + 2], parts[place]
    return "".join(parts)


@final
class WordSwap(Perturbation):
    """See :func:`swap_words`."""

    reads = "text"

    def change(self, value: str, strength: float, random: np.random.Generator) -> str:
        return swap_words(value, strength, random)
