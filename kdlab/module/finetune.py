"""Trains one model on the labels of a task: a teacher, or a student without a teacher."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.batch import Batch
from kdlab.loss.chunk import summed
from kdlab.module.base import TrainingRule


@final
class Finetune(TrainingRule):
    """The supervised rule: the model reads the batch, and the task compares its output with the labels."""

    splittable = True
    chunks = True

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss, _ = summed(lambda output: (self.task.supervised(output, batch), {}), self.task.chunk, self.read(batch))
        self.log_values({"train/loss": loss}, batch)
        return loss
