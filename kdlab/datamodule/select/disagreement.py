"""Label what two models see differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from kdlab.datamodule.select.base import Select, log_probability


@final
class Disagreement(Select):
    """The Jensen-Shannon divergence between two models' probabilities, in nats, in [0, ln 2].

    Source: McCallum, Nigam 1998 (KL to the mean of a committee); Settles 2009, section 3.2.
    """

    def __init__(self, run: str, other: str) -> None:
        self.runs = (str(run), str(other))

    def score(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        log_p = np.stack([log_probability(each) for each in logits])
        mean = np.logaddexp.reduce(log_p, 0) - np.log(len(log_p))
        return np.asarray((np.exp(log_p) * (log_p - mean)).sum(-1).mean(0))
