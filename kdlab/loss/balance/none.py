"""The parts of the loss weighted by alpha and the weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from torch import Tensor

from kdlab.loss.balance.base import Balance


@final
class Plain(Balance):
    """``sum_j share_j * L_j``."""

    def forward(self, parts: Mapping[str, Tensor], share: Mapping[str, float | Tensor], progress: float) -> Tensor:
        total: Tensor | None = None
        for name, value in parts.items():
            part = share[name] * value
            total = part if total is None else total + part
        assert total is not None
        return total
