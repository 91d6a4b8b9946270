"""Trains a student with a frozen teacher on texts that the student writes."""

from __future__ import annotations

import random
from typing import final

from torch import Tensor

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.module.parts import TeacherParts
from kdlab.module.samples import Samples
from kdlab.module.student_texts import StudentTextRule
from kdlab.schedule.base import Schedule, bounds, format_range, value_at


@final
class OnPolicy(StudentTextRule):
    """Generalised knowledge distillation: the teacher corrects what the student itself writes.

    In a step, with probability ``lmbda``, the answers of the batch are replaced by samples of the student, and the
    terms of the objective compare both models on these; no gradient flows through the sampling. The labels' loss is for
    the data's own answers and is left out there. The draw depends on the seed and the step alone: it is the same in all
    micro-batches and on all devices.

    Args:
        samples: draws the student's answers.
        lmbda: share of the steps that learn from the student's texts, in [0, 1], or a schedule; 0 is
            ``module=distill``.

    Source: Agarwal et al. 2023 (GKD), arXiv:2306.13649, algorithm 1.
    """

    chunks = True

    def __init__(self, parts: TeacherParts, seed: int, samples: Samples, lmbda: float | Schedule = 0.5) -> None:
        super().__init__(parts, seed, samples)
        low, high = bounds(lmbda, "module.lmbda")
        if not 0 <= low <= high <= 1:
            raise UserError(
                f"module.lmbda {format_range(low, high)}, but is the share of steps on the student's own texts and "
                "must stay in [0, 1]: 0 is none (module=distill), 1 all"
            )
        self.lmbda = lmbda

    @classmethod
    def option(cls) -> str:
        return "on_policy"

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        own = self.draws()
        batch = self.own(batch, batch_idx) if own else batch
        self.log_values(self.described(batch), batch)
        student = self.read(batch)
        teacher = self.teacher.read(self.task, batch)
        total, parts = self.loss.step(self.task, student, teacher, batch, self.progress, labelled=not own)
        return self.log_loss(total, parts, batch)

    def draws(self) -> bool:
        """Whether the present step learns from the student's texts."""
        first = self.samples.window(self.global_step)
        return random.Random(hash((self.seed, first))).random() < value_at(self.lmbda, self.progress)
