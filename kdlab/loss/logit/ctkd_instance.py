"""A temperature for every row, learned against the student, from easy to hard."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.logit.ctkd import curriculum, kl_at, learned_range, reversed_gradient
from kdlab.loss.rates import Rates
from kdlab.loss.term import ModelSpec, Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule


@final
class CTKDInstance(Term):
    """The mean tempered KL at a learned temperature of each row's own, for single-label tasks.

    The temperature is ``low + span * sigmoid(net(teacher's logits, student's logits))``. The two-layer net is trained
    with the student, to make the loss larger, and is checkpointed with it; no gradient goes through it to the student.
    The authors' net normalises over the batch; this one looks at the rows one by one, so that micro-batches add up.

    Formula: ``T_i^2 KL(p_t || p_s)`` with ``T_i = low + span sigmoid(net(t_i, s_i))``; the gradient for the net is
        reversed.
    When: rows differ much in how hard they are, and no good temperature is known.
    Cost: a net of ``4 C^2 + 4 C + 1`` parameters for C classes, learned and checkpointed with the student.

    Args:
        weight: a number or a schedule.
        low, span, rise, lr, weight_decay: as for :class:`kdlab.loss.logit.ctkd.CTKD`.

    Source: Li et al. 2023 (CTKD, instance-wise), arXiv:2211.16231, section 3.
    """

    outcome = Choice

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        low: float = 1.0,
        span: float = 20.0,
        rise: float = 0.04,
        lr: float | None = None,
        weight_decay: float = 5e-4,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.low, self.span, self.rise = learned_range(low, span, rise)
        self.scalars = Rates(lr, weight_decay, "loss.terms.ctkd_instance", paper=0.05, adaptive=0.001)
        self.net = nn.Sequential()

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        if student.classes == 0 or student.classes != teacher.classes:
            raise UserError(
                f"ctkd_instance reads the logits of both models, but the student gives {student.classes} and the "
                f"teacher {teacher.classes}: use a teacher of the same labels, or term ctkd."
            )
        width = 2 * student.classes
        self.net = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

    @property
    def learned(self) -> list[nn.Parameter]:
        return [*self.net.parameters()]

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        seen = torch.cat([teacher.logits.detach(), student.logits.detach()], -1)
        value = self.net(seen.where(seen > -torch.inf, 0)).squeeze(-1)
        temperature = self.low + self.span * reversed_gradient(value, curriculum(progress, self.rise)).sigmoid()
        return student.mean(kl_at(student.logits, teacher.logits, temperature))
