"""The rows that are worth a label, by the predictions of trained models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np


class Select(ABC):
    """Active selection: of the training rows those of the highest score keep their labels.

    Attributes:
        runs: the trained models that are asked, by run id, run directory or model directory.
    """

    runs: tuple[str, ...]

    @abstractmethod
    def score(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """``[N]``, the higher the sooner a row is labelled, from the logits ``[N, C]`` of each of ``runs``."""


def log_probability(logits: np.ndarray) -> np.ndarray:
    """``[N, C]`` in float64."""
    wide = logits.astype(np.float64)
    return np.asarray(wide - np.logaddexp.reduce(wide, -1, keepdims=True))
