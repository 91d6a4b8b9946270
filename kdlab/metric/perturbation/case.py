"""Letters in the other case."""

from __future__ import annotations

from typing import final

import numpy as np

from kdlab.metric.perturbation.base import Perturbation


def flip_case(text: str, strength: float, random: np.random.Generator) -> str:
    """Each letter changes its case with a probability. A model whose tokenizer lower-cases texts does not notice.

    Example:
        >>> flip_case("film", 1.0, np.random.default_rng(0)), flip_case("film", 0.0, np.random.default_rng(0))
        ('FILM', 'film')
    """
    draws = random.random(len(text))
    return "".join(letter.swapcase() if draw < strength else letter for letter, draw in zip(text, draws, strict=True))


@final
class Case(Perturbation):
    """See :func:`flip_case`."""

    reads = "text"

    def change(self, value: str, strength: float, random: np.random.Generator) -> str:
        return flip_case(value, strength, random)
