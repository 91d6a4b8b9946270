"""Some tokens are not seen."""

from __future__ import annotations

from typing import final

import numpy as np

from kdlab.datamodule.augment.base import Augment, reads, share


@final
class WordDropout(Augment):
    """Each token is hidden from attention with a probability; one at least is seen.

    Args:
        probability: in [0, 1).
        seed: of the draws.
        teacher: the rows that it reads, ``clean`` or ``augmented``.

    Source: Iyyer et al. 2015 (Deep Averaging Networks), ACL, section 3.1.
    """

    def __init__(self, probability: float = 0.1, seed: int = 0, teacher: str = "clean") -> None:
        self.probability = share(probability, "datamodule.augment.probability")
        self.seed, self.teacher = seed, reads(teacher)

    def change(self, ids: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        draws = random.random(len(ids))
        seen = draws >= self.probability
        seen[draws.argmax()] = True
        return ids, seen
