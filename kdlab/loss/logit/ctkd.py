"""A temperature that is learned against the student, from easy to hard."""

from __future__ import annotations

from math import cos, pi
from typing import final

import torch
from torch import Tensor, nn

from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.rates import Rates
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, number, within


def reversed_gradient(value: Tensor, strength: float) -> Tensor:
    """``value`` as it is, whose gradient is multiplied by ``-strength``: what learns from it makes the loss larger.

    Example:
        >>> value = torch.tensor(2.0, requires_grad=True)
        >>> reversed_gradient(value, 0.5).backward()
        >>> value.grad
        tensor(-0.5000)

    Source: Ganin, Lempitsky 2015, arXiv:1409.7495, section 3.1 (gradient reversal).
    """
    return value.detach() + strength * (value.detach() - value)


def curriculum(progress: float, rise: float) -> float:
    """The strength of the reversal: from 0 along half a cosine to 1 at ``rise`` of the run, and 1 from there on.

    Example:
        >>> [round(curriculum(progress, 0.1), 6) for progress in (0.0, 0.05, 0.1, 1.0)]
        [0.0, 0.5, 1.0, 1.0]

    Source: Li et al. 2023 (CTKD), arXiv:2211.16231, section 3 (the cosine curriculum).
    """
    return 1.0 if progress >= rise else (1 - cos(pi * progress / rise)) / 2


def kl_at(student: Tensor, teacher: Tensor, temperature: Tensor) -> Tensor:
    """The tempered KL at a temperature that is a tensor, of one number or ``[...]``, and gets a gradient.

    Example:
        >>> kl_at(torch.tensor([0.0, 0.0]), torch.tensor([100.0, 0.0]), torch.tensor(1.0))  # log 2
        tensor(0.6931)
    """
    scale = temperature[..., None]

    def divided(logits: Tensor) -> Tensor:
        out = logits == -torch.inf  # stays what it is at any temperature, which learns nothing from it
        return (at_least_float32(logits).where(~out, 0) / scale).masked_fill(out, -torch.inf)

    return temperature**2 * tempered_kl(divided(student), divided(teacher), 1.0)


@final
class CTKD(Term):
    """The mean tempered KL at one learned temperature, for single-label tasks.

    The temperature is ``low + span * sigmoid(v)``; v is trained with the student, to make the loss larger, and is
    checkpointed with it. The term has no temperature of its own to set.

    Formula: ``T^2 KL(p_t || p_s)`` with ``T = low + span sigmoid(v)``; the gradient for v is reversed.
    When: no good temperature is known, and a sweep over it is too dear.
    Cost: one parameter, learned and checkpointed with the student.

    Args:
        weight: a number or a schedule.
        low: > 0, the lowest temperature.
        span: > 0, how far above it the temperature can go.
        rise: in [0, 1], the part of the run in which the reversal grows to its full strength; the paper's 10 of 240
            epochs are 0.04.
        lr: of v; None: the authors' 0.05 under SGD, and 0.001 under optimizers whose steps do not depend on the size
            of the gradient, such as AdamW, with which the temperature goes about as far.
        weight_decay: of v; the authors'.

    Source: Li et al. 2023 (CTKD, global), arXiv:2211.16231, section 3.
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
        self.scalars = Rates(lr, weight_decay, "loss.terms.ctkd", paper=0.05, adaptive=0.001)
        self.value = nn.Parameter(torch.ones(()))

    @property
    def learned(self) -> list[nn.Parameter]:
        return [self.value]

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        value = reversed_gradient(at_least_float32(self.value), curriculum(progress, self.rise))
        return student.mean(kl_at(student.logits, teacher.logits, self.low + self.span * value.sigmoid()))


def learned_range(low: float, span: float, rise: float) -> tuple[float, float, float]:
    """The settings of a learned temperature, checked.

    Raises:
        UserError: one of them is out of its range.

    Example:
        >>> learned_range(1, 20, 0.04)
        (1.0, 20.0, 0.04)
    """
    within(low, 1e-3, 1e3, "low", "it is the lowest temperature, and the paper takes 1")
    within(span, 1e-3, 1e3, "span", "temperatures are learned between low and low + span, and the paper takes 20")
    within(rise, 0, 1, "rise", "it is a part of the run, and the paper takes 10 of 240 epochs, which is 0.04")
    return number(low, "low"), number(span, "span"), number(rise, "rise")
