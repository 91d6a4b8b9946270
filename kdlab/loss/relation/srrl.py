"""Softmax regression representation learning: the student's features, judged by the teacher's classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from kdlab.error import UserError
from kdlab.loss.feature.hint import squared_difference
from kdlab.loss.term import ModelSpec, Term, read, width
from kdlab.output import Output, at_least_float32
from kdlab.precision import exact
from kdlab.schedule.base import Schedule, bounds


@exact()
def regression_difference(features: Tensor, logits: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The squared difference between what the teacher's classifier makes of some features and the teacher's logits.

    Args:
        features: ``[..., D]``, the student's at the teacher's width; half precision is computed in float32.
        logits: ``[..., C]``, the teacher's.
        weight: ``[C, D]``. bias: ``[C]``. The teacher's classifier.

    Returns:
        ``[...]``, >= 0, averaged over the classes; 0 where the features are as good as the teacher's own.

    Example:
        >>> features, logits = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0])
        >>> regression_difference(features, logits, torch.eye(2), torch.zeros(2))  # (0 + 4) / 2
        tensor(2.)

    Source: Yang et al. 2021 (SRRL), ICLR, openreview ZzwDy_wiWv, section 3, with the squared difference of logits.
    """
    return squared_difference(
        linear(at_least_float32(features), at_least_float32(weight), at_least_float32(bias)), logits
    )


class SRRL(Term):
    """The mean of :func:`regression_difference`, plus that of the squared difference of the features themselves.

    Reads ``pooled``, what enters the final classifier, on both sides. Where the widths differ, a linear projection,
    which learns with the student, takes the student's to the teacher's. The teacher's classifier does not learn.

    Formula: ``mean_c (W_t P s + b_t - t)_c^2 + matching mean_d (P s - f_t)_d^2``, f_t the teacher's features, W_t and
        b_t its classifier.
    When: features are to be as good as the teacher's for its own classifier, not the same in all directions.
    Cost: a projection of ``D_s D_t`` parameters where the widths differ, never exported; the teacher's classifier in a
        buffer.

    Args:
        weight: a number or a schedule.
        matching: the weight of the features' own difference, >= 0; 1 in the paper.

    Raises:
        UserError: a matching below 0.
    """

    taps = {"student": ("pooled",), "teacher": ("pooled",)}  # noqa: RUF012

    def __init__(self, weight: float | Schedule = 1.0, matching: float = 1.0) -> None:
        super().__init__()
        if not 0 <= bounds(matching, "matching")[0] < float("inf"):
            raise UserError(f"matching is {matching}, but the weight of the features must be a number from 0 up.")
        self.weight, self.matching = weight, matching
        self.adapter: nn.Module = nn.Identity()
        self.classifier: Tensor
        self.bias: Tensor

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        source, target = width(student, "pooled", "student"), width(teacher, "pooled", "teacher")
        last = teacher.classifier()
        if last is None or last.in_features != target:
            raise UserError(
                "SRRL reads the student's features with the teacher's classifier, but the teacher has no final linear "
                "layer that turns its tap 'pooled' into logits: use another teacher, or loss=hint."
            )
        self.adapter = nn.Identity() if source == target else nn.Linear(source, target)
        bias = torch.zeros(last.out_features) if last.bias is None else last.bias
        self.register_buffer("classifier", last.weight.detach().clone())
        self.register_buffer("bias", bias.detach().clone())

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        features = self.adapter(read(student, "pooled", "student"))
        judged = student.mean(regression_difference(features, teacher.logits, self.classifier, self.bias))
        if not self.matching:
            return judged
        return judged + self.matching * student.mean(squared_difference(features, read(teacher, "pooled", "teacher")))
