"""A virtual teacher that is made from the label: distillation without a teacher."""

from __future__ import annotations

from math import log
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.target import label
from kdlab.loss.term import Term
from kdlab.outcome import Choice
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, positive, value_at, within


def virtual_teacher(label: Tensor, classes: int, confidence: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Log-probabilities of a teacher that gives ``confidence`` to the label and the rest evenly to the other classes.

    Args:
        label: class numbers ``[...]``.
        classes: C, at least 2.
        confidence: in (0, 1).

    Returns:
        ``[..., C]``.

    Example:
        >>> virtual_teacher(torch.tensor(0), 3, 0.8).exp()
        tensor([0.8000, 0.1000, 0.1000])

    Source: Yuan et al. 2020 (Tf-KD), arXiv:1909.11723, section 5.
    """
    others = log((1 - confidence) / (classes - 1))
    return one_hot(label, classes).to(dtype) * (log(confidence) - others) + others


@final
class TfKD(Term):
    """The mean of the tempered KL from :func:`virtual_teacher`, for single-label tasks; it reads no teacher.

    Softened at a high temperature this is label smoothing that still prefers the label by a margin. Rows without a
    label have no virtual teacher and add nothing; the mean runs over all rows, as that of every term.

    Formula: ``T^2 KL(softmax(log u_y / T) || p_s)``; u_y gives ``confidence`` to the label y and the rest evenly to the
        others.
    When: there is no teacher, or to see how much of a gain is label smoothing.
    Cost: no teacher is run; no parameters; reads the label.

    Args:
        weight, temperature: numbers or schedules. The paper takes temperatures of 20 and more.
        confidence: the virtual teacher's probability of the label, in [0.01, 0.9999]; a number or a schedule.

    Source: Yuan et al. 2020 (Tf-KD), arXiv:1909.11723, section 5, with T^2 as in every tempered KL here.
    """

    outcome = Choice
    reads_labels = True
    needs_teacher = False

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 20.0,
        confidence: float | Schedule = 0.99,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")
        self.confidence = within(confidence, 0.01, 0.9999, "confidence", "it is a probability; the paper takes 0.99")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        logits = at_least_float32(student.logits)
        virtual = virtual_teacher(label(student), logits.shape[-1], value_at(self.confidence, progress), logits.dtype)
        values = tempered_kl(logits, virtual, value_at(self.temperature, progress))
        return student.mean(values.where(student.labelled, 0))
