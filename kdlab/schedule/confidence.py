"""A value for each row, from the teacher's certainty of it."""

from __future__ import annotations

from math import log
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kdlab.error import UserError
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, between, number, positive

MEASURES = ("entropy", "probability")


def certainty(log_p: Tensor, by: str) -> Tensor:
    """The certainty of a distribution: 0 where all classes are equally likely, 1 where one has all the probability.

    Args:
        log_p: log-probabilities ``[..., C]`` of two or more classes.
        by: ``entropy``: 1 - H(p) / ln C; ``probability``: (max p - 1/C) / (1 - 1/C).

    Returns:
        ``[...]``.

    Example:
        >>> coins = torch.tensor([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
        >>> certainty(coins.log(), "probability")
        tensor([0.0000, 0.5000, 1.0000])
    """
    classes = log_p.shape[-1]
    if by == "entropy":
        value = 1 + (log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(-1) / log(classes)
    else:
        value = (log_p.amax(-1).exp() - 1 / classes) / (1 - 1 / classes)
    return value.clamp(0, 1)


@final
class Confidence(Schedule):
    """``unsure + (sure - unsure) * c_i`` for row i, where c_i in [0, 1] is the teacher's certainty of it.

    For alpha: rows of which the teacher is certain are learned from the teacher, the others from their labels,
    ``mean_i((1 - alpha_i) * supervised_i + alpha_i * term_i)``; for a term's weight, likewise. The log has the mean
    over the last batch. Terms that relate the rows of a batch to each other take that mean. It costs a softmax.

    Args:
        unsure, sure: the value where the teacher's classes are equally likely, and where it is certain.
        by: ``entropy`` or ``probability``, see :func:`certainty`; of several labels the mean over the labels.
        temperature: > 0, of the teacher's probabilities: fine-tuned teachers are sure of nearly everything at 1.

    Source: the confidence of Furlanello et al. 2018 (Born-Again Networks), arXiv:1805.04770, section 3.2, in the place
        of alpha; by entropy: Kwon et al. 2020, Adaptive knowledge distillation based on entropy, ICASSP.
    """

    by_row = True

    def __init__(self, unsure: float = 0.0, sure: float = 1.0, by: str = "entropy", temperature: float = 1.0) -> None:
        if by not in MEASURES:
            raise UserError(f"schedule.by is '{by}', but must be one of {', '.join(MEASURES)}")
        self.unsure, self.sure = number(unsure, "schedule.unsure"), number(sure, "schedule.sure")
        positive(number(temperature, "schedule.temperature"), "schedule.temperature")
        self.by, self.temperature = by, float(temperature)

    def __call__(self, progress: float) -> float:
        """The value without a teacher's output: halfway."""
        return between(self.unsure, self.sure, 0.5)

    def bounds(self) -> tuple[float, float]:
        return min(self.unsure, self.sure), max(self.unsure, self.sure)

    def rows(self, progress: float, teacher: Output) -> Tensor:
        logits = at_least_float32(teacher.logits.detach()) / self.temperature
        if teacher.label is not None and teacher.label.ndim == logits.ndim:  # several labels: each is yes or no
            known = certainty(torch.stack([logsigmoid(logits), logsigmoid(-logits)], -1), self.by).mean(-1)
        else:
            known = certainty(logits.log_softmax(-1), self.by)
        return self.unsure + (self.sure - self.unsure) * known
