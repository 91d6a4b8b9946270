"""Some tokens change places."""

from __future__ import annotations

from typing import final

import numpy as np

from kdlab.datamodule.augment.base import Augment, reads, share


@final
class WordSwap(Augment):
    """Pairs of tokens, drawn at random, change places.

    Args:
        probability: swaps for each token of the row, in [0, 1); their number is rounded at random.
        seed: of the draws.
        teacher: the rows that it reads, ``clean`` or ``augmented``.

    Source: Wei, Zou 2019 (EDA), arXiv:1901.11196, section 2 (random swap).
    """

    def __init__(self, probability: float = 0.1, seed: int = 0, teacher: str = "clean") -> None:
        self.probability = share(probability, "datamodule.augment.probability")
        self.seed, self.teacher = seed, reads(teacher)

    def change(self, ids: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        ids = ids.copy()
        for _ in range(int(self.probability * len(ids) + random.random())):
            one, two = random.integers(0, len(ids), 2)
            ids[[one, two]] = ids[[two, one]]
        return ids, np.ones(len(ids), bool)
