"""Trains a student on the teacher's texts and on its own, with opposite divergences."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.loss.logit.skew_kl import SkewKL, skew_kl
from kdlab.loss.logit.skew_reverse_kl import SkewReverseKL, skew_reverse_kl
from kdlab.loss.objective import Objective
from kdlab.loss.policy.contrastive import adaptive_skew
from kdlab.module.minillm import chosen
from kdlab.module.parts import TeacherParts
from kdlab.module.samples import Samples
from kdlab.module.student_texts import StudentTextRule
from kdlab.output import Output
from kdlab.precision import exact
from kdlab.schedule.base import Schedule, bounds, format_range, value_at
from kdlab.teacher.writer import Writer
from kdlab.value import Share

LEAST = 0.01  # the smallest adaptive skew


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
        adaptive: whether each text has a skew of its own, at most that of the loss and of ``skew``: the smaller, the
            nearer both models are on the text. Its reference is the mean gap of the first step, which is in the
            checkpoint as ``gaps``.

    Source: Ko et al. 2025 (DistiLLM-2), arXiv:2503.07067, section 3; adaptive skew as in their code
        (:func:`kdlab.loss.policy.contrastive.adaptive_skew`), whose reference is the mean gap of the first texts.
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
        adaptive: bool = False,
    ) -> None:
        super().__init__(parts, seed, samples)
        low, high = bounds(balance, "module.balance")
        if not 0 <= low <= high <= 1:
            raise UserError(
                f"module.balance {format_range(low, high)}, but is the share of the student's texts in the loss and "
                "must stay in [0, 1]"
            )
        self.writer, self.balance, self.adaptive = writer, balance, adaptive
        self.gaps = torch.zeros(2, 2)  # of the teacher's texts and of the student's: their sum and number in step 0
        if adaptive:
            self._check_adaptive(skew)
        term = SkewReverseKL(weight=1.0, temperature=self.loss.temperature, skew=skew)
        self.contrast = Objective(1.0, self.loss.temperature, {"skew_reverse_kl": term})

    @classmethod
    def option(cls) -> str:
        return "distillm2"

    def _check_adaptive(self, skew: float) -> None:
        """Refuse losses whose skew cannot be one for each text. Errors: UserError."""
        terms = list(self.loss.terms.values())
        fits = len(terms) == 1 and isinstance(terms[0], SkewKL) and not isinstance(terms[0].skew, Schedule)
        if not fits or self.task.chunk is not None or not skew >= LEAST or not terms[0].skew >= LEAST:  # type: ignore[operator]
            raise UserError(
                f"module.adaptive=true gives each text a skew between {LEAST} and that of the loss: set loss=skew_kl, "
                f"its loss.terms.skew_kl.skew and module.skew to numbers from {LEAST} up, and task.chunk=null, or "
                "module.adaptive=false"
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        own = self.own(batch, batch_idx)
        balance, alpha = value_at(self.balance, self.progress), value_at(self.loss.alpha, self.progress)
        first, parts = self._compared(self.loss, batch, labelled=True)
        second, _ = self._compared(self.contrast, own, labelled=False, by_student=True)
        self.log_values(self.described(own) | {"train/student_texts": second}, batch)
        return self.log_loss((1 - balance) * first + balance * alpha * second, parts, batch)

    def _compared(
        self, loss: Objective, batch: Batch, labelled: bool, by_student: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """An objective on a batch, and its parts.

        Args:
            by_student: whether the student wrote its texts.
        """
        student, teacher = self.read(batch), self.teacher.read(self.task, batch)
        if not self.adaptive:
            return loss.step(self.task, student, teacher, batch, self.progress, labelled)
        ((name, term),) = loss.terms.items()
        assert isinstance(term, SkewKL | SkewReverseKL) and isinstance(term.skew, int | float)
        divergence = skew_reverse_kl if by_student else skew_kl
        ahead = gap(student, teacher) if by_student else gap(teacher, student)
        skew = self._skew(ahead, by_student, float(term.skew))[:, None].expand(student.mask.shape)
        temperature, weight, alpha = (
            value_at(one, self.progress) for one in (term.temperature, term.weight, loss.alpha)
        )
        with exact():
            value = student.mean(divergence(student.logits, teacher.logits, temperature, skew))
        total, parts = alpha * weight * value, {name: value.detach()}
        if labelled and alpha < 1:
            supervised = self.task.supervised(student, batch)
            total, parts["supervised"] = total + (1 - alpha) * supervised, supervised.detach()
        return total, parts

    def _skew(self, ahead: Tensor, by_student: bool, base: float) -> Tensor:
        """The skew of each text ``[B]``; in the first step, which the reference is made of, that of the loss."""
        if self.global_step > 0 and self.gaps[int(by_student), 1] > 0:
            total, count = self.gaps[int(by_student)].tolist()
            return adaptive_skew(ahead, total / count, base, LEAST)
        if self.global_step == 0:
            found = torch.stack([ahead.sum(), ahead.new_tensor(len(ahead))])
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.all_reduce(found)
            self.gaps[int(by_student)] += found.cpu()
        return torch.full_like(ahead, base)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.adaptive:
            checkpoint["gaps"] = self.gaps.clone()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.gaps = checkpoint.get("gaps", self.gaps).cpu()


@exact()
@torch.no_grad()
def gap(ahead: Output, behind: Output) -> Tensor:
    """By how much one model gives each text more probability than another, token by token, ``[B]``.

    The difference of the exponentials of the mean log-probabilities of a text's tokens; 0 where a row has none.

    Source: Ko et al. 2025 (DistiLLM-2), arXiv:2503.07067, section 3.
    """
    count = ahead.mask.sum(1)
    means = [chosen(one).sum(1) / count.clamp(min=1) for one in (ahead, behind)]
    return (means[0].exp() - means[1].exp()).where(count > 0, 0)
