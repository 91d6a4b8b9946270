"""Label what a model can hardly decide between two classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from kdlab.datamodule.select.base import Select, log_probability


@final
class Margin(Select):
    """Minus the difference between the two highest probabilities.

    Source: Scheffer, Decomain, Wrobel 2001; Settles 2009 (Active Learning Literature Survey), section 3.1.
    """

    def __init__(self, run: str) -> None:
        self.runs = (str(run),)

    def score(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        ordered = np.sort(np.exp(log_probability(logits[0])), -1)
        return np.asarray(ordered[:, -2] - ordered[:, -1])
