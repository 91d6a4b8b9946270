"""Train a student with a frozen teacher."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.batch import Batch
from kdlab.module.chunk import summed
from kdlab.module.taught import Taught
from kdlab.output import Output


@final
class Distill(Taught):
    """The distillation rule: the batch is read twice, and the objective compares what the two said."""

    splittable = True
    chunks = True

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        def compare(student: Output, teacher: Output) -> tuple[Tensor, dict[str, Tensor]]:
            supervised = self.task.supervised(self.loss.labels(student, teacher, self.progress), batch)
            return self.loss(supervised, student, teacher, self.progress)

        student = self.read(batch)
        teacher = self.teacher.read(self.task, batch)
        return self.learned(summed(compare, self.task.chunk, student, teacher), batch)
