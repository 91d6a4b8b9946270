"""A real number for every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from kdlab.batch import Batch
from kdlab.datamodule.target import NUMBER, Numbers
from kdlab.error import UserError
from kdlab.outcome import Real
from kdlab.output import Output, at_least_float32
from kdlab.task.labelled import Labelled
from kdlab.value import Positive

if TYPE_CHECKING:
    from kdlab.datamodule.data import Data

FAR, NARROW = 5.0, 0.02  # how far the training numbers may be from center, and how spread, in units of scale


@final
class Regression(Labelled):
    """Reads one logit ``[B, 1]`` a row, which is ``(number - center) / scale``.

    Losses are about this logit, so that they are of the size that learning rates are made for; metrics and predictions
    are in the unit of the numbers.

    Args:
        loss: against the labels: ``mse``, the squared difference, or ``huber``, a line where it is above ``delta``.
        delta: > 0, in units of ``scale``.
        center, scale: about the mean and the standard deviation of the training numbers, in their unit.
    """

    kind = "sequence_classification"  # transformers' name for models with a vector of logits a row
    answers = NUMBER
    problem = "regression"
    outcome: Real

    def __init__(
        self, loss: Literal["mse", "huber"] = "mse", delta: Positive = 1.0, center: float = 0.0, scale: Positive = 1.0
    ) -> None:
        if loss not in ("mse", "huber"):
            raise UserError(f"task.loss is '{loss}', but must be mse or huber")
        for name, value in (("delta", delta), ("scale", scale)):
            if not 0 < value < float("inf"):
                raise UserError(f"task.{name} is {value}, but must be above 0")
        self.loss, self.delta = loss, float(delta)
        self.outcome = Real(center=float(center), scale=float(scale))

    def check_data(self, data: Data) -> None:
        """Refuse also numbers that are far from what ``center`` and ``scale`` expect."""
        super().check_data(data)
        target, train = data.target, data.splits["train"]
        if not isinstance(target, Numbers) or data.whole:
            return
        numbers = target.values[train[target.known[train]]].astype(np.float64)
        if not len(numbers):
            return
        mean, spread = float(numbers.mean()), float(numbers.std())
        far = abs(mean - self.outcome.center) > FAR * self.outcome.scale
        if far or spread > FAR * self.outcome.scale or 0 < spread < NARROW * self.outcome.scale:
            raise UserError(
                f"the training numbers of {data.source} are {mean:.4g} in the mean with a standard deviation of "
                f"{spread:.4g}, far from task.center={self.outcome.center:g} and task.scale={self.outcome.scale:g}, so "
                f"that they would be learned badly: set task.center={mean:.4g} task.scale={spread or 1:.4g}"
            )

    def prepare(self, labels: Sequence[str], counts: Sequence[int]) -> None:
        self.outcome = Real(labels, self.outcome.center, self.outcome.scale)

    def frame(self, logits: Tensor, batch: Batch) -> Output:
        found = super().frame(logits, batch)
        label = batch.target.get("label")
        return found if label is None else replace(found, label=self.outcome.standardised(label))

    def supervised(self, output: Output, batch: Batch) -> Tensor:
        label = self.outcome.standardised(batch.target["label"])
        labelled = label.isfinite()
        number, wanted = at_least_float32(output.logits).squeeze(-1), label.where(labelled, 0)
        if self.loss == "huber":
            values = huber_loss(number, wanted.to(number), reduction="none", delta=self.delta)
        else:
            values = (number - wanted).square()
        # a step without any labelled row has count 0: None makes that 0 / 1
        return output.restrict(labelled, count=batch.size.get("labelled") or None).mean(values)

    def scored(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
        """Predictions ``[N]`` and labels ``[N]``, nan where a row has none, in the unit of the numbers."""
        return self.outcome.chosen(output.logits).squeeze(-1), batch.target["label"].to(torch.float32)
