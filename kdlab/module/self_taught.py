"""Trains a student with an objective whose terms read no teacher."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, final

from torch import Tensor

from kdlab.batch import Batch
from kdlab.loss.objective import Objective
from kdlab.module.base import TrainingRule
from kdlab.module.parts import Parts


@final
class SelfTaughtRule(TrainingRule):
    """The rule that ``module=distill`` becomes where the loss needs no teacher, such as ``loss=tf_kd``."""

    def __init__(self, parts: Parts, loss: Objective, seed: int) -> None:
        super().__init__(parts, seed)
        self.loss = loss
        self.loss.balance.watch(parts.model)

    @classmethod
    def option(cls) -> str:
        return "distill"

    @property
    def taps(self) -> Collection[str]:
        return self.loss.taps["student"]

    def extra_groups(self) -> list[dict[str, Any]]:
        return self.loss.groups

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        student = self.read(batch)
        supervised = self.task.supervised(student, batch)
        total, values = self.loss(supervised, student, None, self.progress)
        named = {"train/loss": total} | {f"train/loss/{name}": value for name, value in values.items()}
        named |= {f"train/schedule/{name}": value for name, value in self.loss.current(self.progress).items()}
        self.log_values(named, batch)
        return total
