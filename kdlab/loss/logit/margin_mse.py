"""By how much the right one is ahead of each other one."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.mse import difference
from kdlab.loss.logit.target import target
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule


def margin_mse(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """The squared difference of margins, averaged over the classes that are not the target, per position.

    A margin is the target's score less another's. Where the classes are a query's candidates and the target is the
    relevant one, two candidates give the paper's loss over (query, relevant, other).

    Args:
        student, teacher: scores ``[..., C]`` with C >= 2; half precision is computed in float32.
        target: class numbers ``[...]``.

    Returns:
        ``[...]``, >= 0, free of a shift of either side; 0 where all differences to the target agree.

    Example:
        >>> import torch
        >>> margin_mse(torch.tensor([3.0, 1.0]), torch.tensor([5.0, 1.0]), torch.tensor(0))  # (2 - 4)^2
        tensor(4.)

    Source: Hofstätter et al. 2020 (Margin-MSE), arXiv:2010.02666, the Margin-MSE loss.
    """
    gap, out = difference(student, teacher)
    margins = (gap.gather(-1, target[..., None]) - gap).where(~out, 0)  # 0 at the target itself
    return margins.square().sum(-1) / (gap.shape[-1] - 1)


@final
class MarginMSE(Term):
    """The mean of :func:`margin_mse`, for single-label tasks.

    Rows without a label take the teacher's most likely class for it.

    Formula: ``mean_{c != target} ((s_target - s_c) - (t_target - t_c))^2``.
    When: ranking, where how far the right one is ahead matters and the level of the scores does not.
    Cost: no parameters; reads the label.

    Args:
        weight: a number or a schedule.
    """

    outcome = Choice
    reads_labels = True

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        return student.mean(margin_mse(student.logits, teacher.logits, target(student, teacher)))
