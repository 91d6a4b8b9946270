"""Parts of the loss that fell slowest of late count most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.balance.base import Balance
from kdlab.schedule.base import Schedule, positive


@final
class Period(Schedule):
    """In which of ``count`` equal parts of the run a moment lies, from 0."""

    def __init__(self, count: int) -> None:
        if not isinstance(count, int) or count < 1:
            raise UserError(f"loss.balance.periods is {count}, but must be a whole number from 1 up: 10 is common")
        self.count = count

    def __call__(self, progress: float) -> int:
        return min(int(progress * self.count), self.count - 1)


@final
class DWA(Balance):
    """``sum_j share_j * m_j * L_j``, ``m = J * softmax(r / temperature)``, ``r_j = L_j(t - 1) / L_j(t - 2)``.

    L_j(t) is the mean of a part over a period, J the number of parts, and the factors sum to J; in the first two
    periods they are 1. For parts that learn at unlike speeds. It costs nothing. Parts must be positive.

    Args:
        temperature: > 0; the larger, the more equal. The paper takes 2.
        periods: into how many the run is cut; the number of epochs for the paper's rule.

    Source: Liu, Johns, Davison 2019, arXiv:1803.10704, section 3.3 (dynamic weight average).
    """

    means: Tensor  # [J, 3] of the period before the last, the last one and this one
    counted: Tensor
    factor: Tensor

    def __init__(self, temperature: float = 2.0, periods: int = 10) -> None:
        super().__init__()
        positive(temperature, "loss.balance.temperature")
        self.temperature, self.period = float(temperature), Period(periods)
        self.names: list[str] = []
        self.now = 0

    def connect(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.register_buffer("means", torch.zeros(len(self.names), 3))
        self.register_buffer("counted", torch.zeros(()))
        self.register_buffer("factor", torch.ones(len(self.names)))

    def get_extra_state(self) -> dict[str, Any]:
        return {"now": self.now}

    def set_extra_state(self, state: Any) -> None:
        self.now = state["now"]

    @property
    def current(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.factor.unbind(), strict=True))

    def forward(self, parts: Mapping[str, Tensor], share: Mapping[str, float | Tensor], progress: float) -> Tensor:
        if self.training:
            self._turn(self.period(progress))
            self._count(torch.stack([parts[name].detach() for name in self.names]).to(self.means))
        factors = zip(self.names, self.factor.clone().unbind(), strict=True)
        return torch.stack([share[name] * factor * parts[name] for name, factor in factors]).sum()

    def _turn(self, period: int) -> None:
        """At the start of a period, set the weights from the last two."""
        if period == self.now:
            return
        self.means.copy_(torch.cat([self.means[:, 1:], torch.zeros_like(self.means[:, :1])], 1))
        self.counted.zero_()
        self.now = period
        known = (self.means[:, :2] > 0).all()
        ratio = self.means[:, 1] / self.means[:, 0]
        factor = len(self.names) * (ratio / self.temperature).softmax(0)
        self.factor.copy_(factor.where(known, torch.ones_like(factor)))

    def _count(self, values: Tensor) -> None:
        self.counted += 1
        self.means[:, 2] += (values - self.means[:, 2]) / self.counted
