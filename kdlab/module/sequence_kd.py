"""Trains a student on the answers that its teacher wrote to the prompts of the training rows."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.loss.objective import Objective
from kdlab.module.parts import TeacherParts
from kdlab.module.student_texts import refuse_packs
from kdlab.module.teacher_rule import TeacherRule
from kdlab.task.base import Task
from kdlab.task.generative import GenerativeTask
from kdlab.teacher.base import Teacher
from kdlab.teacher.writer import Writer


@final
class SequenceKD(TeacherRule):
    """Sequence-level distillation: the training rows have the teacher's answers in place of their own.

    The labels are then the teacher's tokens, so that ``loss=ce`` is the paper's; with a term as well, the student also
    learns from the teacher's distribution at each of these tokens, stored or live.

    Args:
        writer: has written the answers before the rule is made, see :meth:`kdlab.teacher.writer.Writer.rewrite`.

    Source: Kim, Rush 2016, arXiv:1606.07947, section 3.2.
    """

    splittable = True
    chunks = True

    def __init__(self, parts: TeacherParts, seed: int, writer: Writer) -> None:
        super().__init__(parts, seed)
        self.writer = writer

    @classmethod
    def option(cls) -> str:
        return "sequence_kd"

    @classmethod
    def accept_data(cls, data: Data) -> None:
        refuse_packs(data, cls.option())

    @classmethod
    def accept(cls, teacher: type[Teacher], task: Task, loss: Objective) -> None:
        if not isinstance(task, GenerativeTask):
            raise UserError(
                f"module=sequence_kd learns from texts that the teacher writes, and models of task={task.option()} "
                "write none: choose task=causal_lm, or module=distill"
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        student = self.read(batch)
        teacher = self.teacher.read(self.task, batch)
        total, parts = self.loss.step(self.task, student, teacher, batch, self.progress)
        return self.log_loss(total, parts, batch)
