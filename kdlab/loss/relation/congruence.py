"""Correlation congruence: the Gaussian kernel between the rows of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, factorial

from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.relation.rows import RowRelation, unit
from kdlab.output import at_least_float32
from kdlab.precision import exact
from kdlab.schedule.base import Schedule, number


@exact()
def correlation(features: Tensor, gamma: float, order: int) -> Tensor:
    """The kernel ``exp(-gamma * |x - y|^2)`` of rows at length 1, as its Taylor series to a power of ``x * y``.

    Args:
        features: ``[B, D]``.
        gamma: > 0, how fast rows become unlike with their distance.
        order: the highest power, >= 1.

    Returns:
        ``[B, B]``.

    Example:
        >>> import torch
        >>> correlation(torch.eye(2), 0.5, 2)[0]  # exp(-1) * (1 + 1 + 1/2) and exp(-1)
        tensor([0.9197, 0.3679])
    """
    rows = unit(features)
    cosine = rows @ rows.T
    # by Horner's rule
    total = cosine.new_full(cosine.shape, (2 * gamma) ** order / factorial(order))
    for power in reversed(range(order)):
        total = total * cosine + (2 * gamma) ** power / factorial(power)
    return exp(-2 * gamma) * total


def correlation_difference(student: Tensor, teacher: Tensor, mask: Tensor, gamma: float, order: int) -> Tensor:
    """The squared differences of a row's correlations, averaged over the rows.

    Args:
        student: ``[B, D]``. teacher: ``[B, E]``; the widths may differ. Half precision is computed in float32.
        mask: ``[B]`` bool; rows outside it count neither by themselves nor as others.
        gamma, order: of :func:`correlation`.

    Returns:
        ``[B]``, >= 0, free of rotation and of the length of any row of either side; 0 where the correlations agree.

    Example:
        >>> import torch
        >>> student, teacher = torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, 4.0]])
        >>> correlation_difference(student, teacher, torch.tensor([True, True]), 0.4, 2)  # only lengths differ
        tensor([0., 0.])

    Source: Peng et al. 2019 (CCKD), arXiv:1904.01802, section 3.2 and 3.3.
    """
    student_kernel = correlation(at_least_float32(student).where(mask[:, None], 0), gamma, order)
    teacher_kernel = correlation(at_least_float32(teacher).where(mask[:, None], 0), gamma, order)
    pairs = mask[:, None] & mask
    return (student_kernel - teacher_kernel).square().where(pairs, 0).sum(-1) / mask.sum().clamp(min=1)


class Congruence(RowRelation):
    """The mean of :func:`correlation_difference` between two taps; it relates the rows of a micro-batch.

    Formula: ``mean_j (k(s_i, s_j) - k(t_i, t_j))^2`` with the Taylor series of ``exp(-gamma |x - y|^2)`` at length 1.
    When: other widths; near texts should count more than far ones.
    Cost: no parameters; B^2 numbers.

    Args:
        weight: a number or a schedule.
        gamma: of the Gaussian kernel, > 0; 0.4 in the paper.
        order: highest power of its Taylor series, >= 1; 2 in the paper.
        taps: ``{student: NAME, teacher: NAME}``, each ``[B, D]``, or ``[B, L, D]``, averaged over the real tokens.

    Raises:
        UserError: gamma or order out of range.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        gamma: float = 0.4,
        order: int = 2,
        taps: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(weight, taps)
        if number(gamma, "gamma") <= 0:
            raise UserError(f"gamma is {gamma}, but the Gaussian kernel's must be above 0: 0.4 is common.")
        if not isinstance(order, int) or not 1 <= order <= 100:
            raise UserError(f"order is {order}, but must be a whole number from 1 to 100: 2 is common.")
        self.gamma, self.order = gamma, order

    def difference(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return correlation_difference(student, teacher, mask, self.gamma, self.order)
