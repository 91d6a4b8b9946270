"""Train a student with a frozen teacher."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.module.taught import Taught
from kdlab.output import Batch


@final
class Distill(Taught):
    """The distillation rule: the batch is read twice, and the objective compares what the two said."""

    splittable = True

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        student = self.read(batch)
        teacher = self.teacher.read(self.task, batch)
        supervised = self.task.supervised(self.loss.labels(student, teacher, self.progress), batch)
        return self.learned(self.loss(supervised, student, teacher, self.progress), batch)
