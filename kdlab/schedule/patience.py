"""The number of validations to wait for one that is better than all before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from kdlab.direction import Directions, mode
from kdlab.error import UserError
from kdlab.schedule.base import number


@final
class Patience:
    """Counts the validations since a metric was last better than ever before.

    Args:
        monitor: the metric, as it is logged in validation.
        mode: ``max`` or ``min``: whether more or less is better; None: as the metric declares.
        patience: number of validations in a row without a gain that are too many; at least 1.
        min_delta: >= 0, by how much the metric has to be better.
        where: the key of the config node that these are from, for messages.
    """

    def __init__(
        self, monitor: str, mode: str | None, patience: int, min_delta: float, where: str = "schedule"
    ) -> None:
        if mode not in (None, "max", "min"):
            raise UserError(
                f"{where}.mode is '{mode}', but must be max or min, or null for the direction of the metric"
            )
        if not isinstance(patience, int) or patience < 1:
            raise UserError(f"{where}.patience is {patience}, but must be a number of validations from 1 up")
        if number(min_delta, f"{where}.min_delta") < 0:
            raise UserError(f"{where}.min_delta is {min_delta:g}, but must not be below 0: 0 takes every gain")
        self.monitor, self.mode, self.where = monitor, mode, where
        self.patience, self.min_delta = patience, float(min_delta)
        self.best: float | None = None
        self.waited = 0

    def direct(self, directions: Directions) -> None:
        """Receive the directions that the metrics of the run declare.

        Raises:
            UserError: ``mode`` contradicts it, or is None and nothing is declared.
        """
        self.mode = mode(self.monitor, self.mode, directions, f"{self.where}.mode")

    def ends(self, metrics: Mapping[str, float]) -> bool:
        """Count a validation; True where it was one too many without a gain, after which the count begins anew.

        Raises:
            UserError: the metric is not among those of the validation.
        """
        if self.monitor not in metrics:
            raise UserError(
                f"{self.where}.monitor={self.monitor} was not logged in validation: choose one of "
                f"{', '.join(sorted(name for name in metrics if name.startswith('val/')))}"
            )
        if self.mode is None:
            self.direct({})
        value = metrics[self.monitor] if self.mode == "max" else -metrics[self.monitor]
        if (self.best is None and value == value) or (self.best is not None and value > self.best + self.min_delta):
            self.best, self.waited = value, 0
            return False
        self.waited = (self.waited + 1) % self.patience
        return self.waited == 0

    def state(self) -> dict[str, Any]:
        """The count, for a checkpoint: plain values."""
        return {"best": self.best, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a result of :meth:`state`."""
        self.best, self.waited = state["best"], state["waited"]
