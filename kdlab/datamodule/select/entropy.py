"""Label what a model is least certain of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from kdlab.datamodule.select.base import Select, log_probability


@final
class Entropy(Select):
    """The entropy of a model's prediction for a row, in nats.

    Source: Settles 2009 (Active Learning Literature Survey), section 3.1.
    """

    def __init__(self, run: str) -> None:
        self.runs = (str(run),)

    def score(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        log_p = log_probability(logits[0])
        return np.asarray(-(np.exp(log_p) * log_p).sum(-1))
