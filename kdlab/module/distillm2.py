"""Trains a student on the teacher's texts and on its own, with opposite divergences."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.loss.logit.skew_reverse_kl import SkewReverseKL
from kdlab.loss.objective import Objective
from kdlab.module.parts import TeacherParts
from kdlab.module.samples import Samples
from kdlab.module.student_texts import StudentTextRule
from kdlab.schedule.base import Schedule, bounds, format_range, value_at
from kdlab.teacher.writer import Writer
from kdlab.value import Share


@final
class DistiLLM2(StudentTextRule):
    """``(1 - balance) * loss on the teacher's texts + balance * alpha * skew reverse KL on the student's``.

    The training rows have the teacher's answers, as with ``module=sequence_kd``. The loss on them is the run's, which
    is the paper's with ``loss=skew_kl loss.alpha=1``: it raises the student's probability of what the teacher writes.
    The skew reverse KL lowers that of what the student writes and the teacher would not.

    Args:
        writer: has written the teacher's answers before the rule is made.
        samples: draws the student's answers.
        balance: share of the student's texts, in [0, 1], or a schedule; the paper raises it from 0.5 to 0.75.
        skew: share of the student in the mixture that its own texts are compared with, in [0, 1).

    Source: Ko et al. 2025 (DistiLLM-2), arXiv:2503.07067, section 3; its skew that adapts to each text is
        :func:`kdlab.loss.policy.contrastive.adaptive_skew`, and is not used here.
    """

    higher_is_better = StudentTextRule.higher_is_better | {"student_texts": False}
    chunks = True

    def __init__(
        self,
        parts: TeacherParts,
        seed: int,
        writer: Writer,
        samples: Samples,
        balance: float | Schedule = 0.5,
        skew: Share = 0.1,
    ) -> None:
        super().__init__(parts, seed, samples)
        low, high = bounds(balance, "module.balance")
        if not 0 <= low <= high <= 1:
            raise UserError(
                f"module.balance {format_range(low, high)}, but is the share of the student's texts in the loss and "
                "must stay in [0, 1]"
            )
        self.writer, self.balance = writer, balance
        term = SkewReverseKL(weight=1.0, temperature=self.loss.temperature, skew=skew)
        self.contrast = Objective(1.0, self.loss.temperature, {"skew_reverse_kl": term})

    @classmethod
    def option(cls) -> str:
        return "distillm2"

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        own = self.own(batch, batch_idx)
        balance, alpha = value_at(self.balance, self.progress), value_at(self.loss.alpha, self.progress)
        first, parts = self._compared(self.loss, batch, labelled=True)
        second, _ = self._compared(self.contrast, own, labelled=False)
        self.log_values(self.described(own) | {"train/student_texts": second}, batch)
        return self.log_loss((1 - balance) * first + balance * alpha * second, parts, batch)

    def _compared(self, loss: Objective, batch: Batch, labelled: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """An objective on a batch, and its parts."""
        student, teacher = self.read(batch), self.teacher.read(self.task, batch)
        return loss.step(self.task, student, teacher, batch, self.progress, labelled)
