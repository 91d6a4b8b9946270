"""Steps down, or up, each time the validation has not become better for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from kdlab.direction import PRIMARY
from kdlab.error import UserError
from kdlab.schedule.base import Schedule, number
from kdlab.schedule.patience import Patience


@final
class Plateau(Schedule):
    """``start * factor ** k`` within [least, most], after the k-th time that ``patience`` validations brought no gain.

    For alpha: lean on the teacher while that helps, and on the labels after it. It costs nothing.

    Args:
        start: the value at first, within [least, most].
        factor: > 0: below 1 the value falls, above 1 it rises.
        least, most: bounds of the value.
        patience, monitor, mode, min_delta: see :class:`Patience`.

    Source: the rule of :class:`torch.optim.lr_scheduler.ReduceLROnPlateau`, for any number.
    """

    def __init__(
        self, start: float, factor: float = 0.5, least: float = 0.0, most: float = 1.0, patience: int = 3,
        monitor: str = PRIMARY, mode: str | None = None, min_delta: float = 0.0,
    ) -> None:  # fmt: skip
        self.start, self.factor = number(start, "schedule.start"), number(factor, "schedule.factor")
        self.least, self.most = number(least, "schedule.least"), number(most, "schedule.most")
        if not self.least <= self.start <= self.most:
            raise UserError(
                f"schedule.start is {self.start:g}, but must lie between schedule.least={self.least:g} and "
                f"schedule.most={self.most:g}: change one of them"
            )
        if self.factor <= 0 or self.factor == 1:
            raise UserError(
                f"schedule.factor is {self.factor:g}, but must be above 0 and not 1: 0.5 halves the value, 2 doubles it"
            )
        self.patience = Patience(monitor, mode, patience, min_delta)
        self.monitor = monitor
        self.times = 0

    def __call__(self, progress: float) -> float:
        return min(max(self.start * self.factor**self.times, self.least), self.most)

    def bounds(self) -> tuple[float, float]:
        falls = (self.factor < 1) == (self.start > 0)
        return (self.least, self.start) if falls else (self.start, self.most)

    def direct(self, directions: Mapping[str, bool | None]) -> None:
        self.patience.direct(directions)

    def observe(self, metrics: Mapping[str, float]) -> None:
        self.times += self.patience.ends(metrics)

    def state(self) -> dict[str, Any]:
        return self.patience.state() | {"times": self.times}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.patience.restore(state)
        self.times = state["times"]
