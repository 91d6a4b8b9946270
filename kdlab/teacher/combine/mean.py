"""All teachers have the same weight."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.teacher.combine.base import Combine


@final
class Mean(Combine):
    """The mean of the members' probabilities.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 1 (an ensemble's average prediction is the target).
    """

    def weights(self, log_p: Tensor, state: Tensor) -> Tensor:
        return log_p.new_full(log_p.shape[:2], 1 / len(log_p))
