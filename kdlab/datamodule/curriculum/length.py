"""Short texts first."""

from __future__ import annotations

from typing import final

import numpy as np

from kdlab.datamodule.curriculum.base import Curriculum


@final
class Length(Curriculum):
    """Difficulty is the number of tokens, after truncation.

    Source: Platanios et al. 2019, arXiv:1903.09848, section 4.1 (sentence length).
    """

    def difficulty(self, lengths: np.ndarray) -> np.ndarray:
        return lengths
