"""One value until the student gains no more, then another one for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from kdlab.direction import PRIMARY
from kdlab.error import UserError
from kdlab.schedule.base import Schedule, number
from kdlab.schedule.patience import Patience


@final
class EarlyStop(Schedule):
    """``value`` until ``patience`` validations in a row brought no gain, or until ``until``; then ``after``, for good.

    For alpha: a small student may fit the teacher or the labels, but not both; in the end the labels count. The terms
    are computed on, so it costs nothing and saves nothing.

    Args:
        value: at first.
        after: then, for good.
        until: the part of the run, in (0, 1], after which it ends at the latest; None: only the validation decides.
        patience, monitor, mode, min_delta: see :class:`Patience`; patience None: only ``until`` decides.

    Source: Cho, Hariharan 2019, On the efficacy of knowledge distillation, arXiv:1910.01348, section 5 (early-stopped
        distillation; the paper stops after a given number of epochs, which is ``until``).
    """

    def __init__(
        self, value: float, after: float = 0.0, until: float | None = None, patience: int | None = 3,
        monitor: str = PRIMARY, mode: str | None = None, min_delta: float = 0.0,
    ) -> None:  # fmt: skip
        self.value, self.after = number(value, "schedule.value"), number(after, "schedule.after")
        if patience is None and until is None:
            raise UserError("schedule.patience and schedule.until are both null, so that nothing ends it: set one")
        if until is not None and not 0 < number(until, "schedule.until") <= 1:
            raise UserError(f"schedule.until is {until:g}, but must be a part of the run in (0, 1], such as 0.5")
        self.until = 2.0 if until is None else float(until)  # progress never gets beyond 1
        never = patience is None
        self.patience = Patience(monitor, mode, 10**9 if patience is None else patience, min_delta)
        self.monitor = None if never else monitor
        self.stopped = False

    def __call__(self, progress: float) -> float:
        return self.after if self.stopped or progress >= self.until else self.value

    def bounds(self) -> tuple[float, float]:
        return min(self.value, self.after), max(self.value, self.after)

    def direct(self, directions: Mapping[str, bool | None]) -> None:
        if self.monitor is not None:
            self.patience.direct(directions)

    def observe(self, metrics: Mapping[str, float]) -> None:
        self.stopped = (self.monitor is not None and self.patience.ends(metrics)) or self.stopped

    def state(self) -> dict[str, Any]:
        return self.patience.state() | {"stopped": self.stopped}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.patience.restore(state)
        self.stopped = state["stopped"]
