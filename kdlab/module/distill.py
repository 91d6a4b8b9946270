"""Train a student with a frozen teacher."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.batch import Batch
from kdlab.module.teacher_rule import TeacherRule


@final
class Distill(TeacherRule):
    """The distillation rule: student and teacher read the batch, and the objective compares their outputs."""

    splittable = True
    chunks = True

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        student = self.read(batch)
        teacher = self.teacher.read(self.task, batch)
        total, parts = self.loss.step(self.task, student, teacher, batch, self.progress)
        return self.log_loss(total, parts, batch)
