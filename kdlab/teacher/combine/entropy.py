"""Teachers are weighted by their certainty: the lower the entropy, the higher the weight."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.error import UserError
from kdlab.schedule.base import number
from kdlab.teacher.combine.base import Combine, entropy


@final
class Entropy(Combine):
    """Weights ``softmax(-H / temperature)`` over the members, H the entropy of a member's output on the row, in nats.

    Args:
        temperature: > 0; towards 0 the most certain member alone counts, towards infinity all have the same weight.

    Source: the idea of Kwon et al. 2020 (Adaptive Knowledge Distillation Based on Entropy), ICASSP: teachers of low
        entropy get large weights.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = number(temperature, "teacher.combine.temperature")
        if self.temperature <= 0:
            raise UserError(f"teacher.combine.temperature is {temperature:g}, but must be above 0: 1 is common")

    def weights(self, log_p: Tensor, state: Tensor) -> Tensor:
        return (-entropy(log_p) / self.temperature).softmax(0)
