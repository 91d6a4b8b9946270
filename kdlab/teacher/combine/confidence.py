"""Teachers are weighted by their highest probability."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.teacher.combine.base import Combine, confidence


@final
class Confidence(Combine):
    """Weights in proportion to each member's highest probability on the row."""

    def weights(self, log_p: Tensor, state: Tensor) -> Tensor:
        certain = confidence(log_p)
        return certain / certain.sum(0)
