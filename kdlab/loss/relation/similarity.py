"""Similarity-preserving distillation: rows that are alike for the teacher are alike for the student."""

from __future__ import annotations

from torch import Tensor

from kdlab.loss.relation.rows import RowRelation, unit
from kdlab.output import at_least_float32
from kdlab.precision import exact


@exact()
def similarity(features: Tensor, mask: Tensor) -> Tensor:
    """Inner products of all pairs of rows in ``mask``, each row of the matrix at length 1.

    Args:
        features: ``[B, D]``.
        mask: ``[B]`` bool.

    Returns:
        ``[B, B]``; 0 for pairs that do not count.

    Example:
        >>> import torch
        >>> similarity(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([True, True])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    features = features.where(mask[:, None], 0)
    return unit(features @ features.T)


def similarity_difference(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """The squared differences of a row's similarities, averaged over the rows.

    Args:
        student: ``[B, D]``. teacher: ``[B, E]``; the widths may differ. Half precision is computed in float32.
        mask: ``[B]`` bool; rows outside it count neither by themselves nor as others.

    Returns:
        ``[B]``, >= 0, free of rotation and scale of either side; its mean is the squared Frobenius norm of the
        difference of the two matrices, divided by B squared.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[1.0], [1.0]])
        >>> similarity_difference(torch.eye(2), teacher, torch.tensor([True, True]))  # (2 - sqrt 2) / 2
        tensor([0.2929, 0.2929])

    Source: Tung, Mori 2019 (SP), arXiv:1907.09682, section 3.1, for one pair of layers.
    """
    difference = similarity(at_least_float32(student), mask) - similarity(at_least_float32(teacher), mask)
    return difference.square().sum(-1) / mask.sum().clamp(min=1)


class Similarity(RowRelation):
    """The mean of :func:`similarity_difference` between two taps; it relates the rows of a micro-batch.

    Formula: ``sum_j (g_s(i, j) - g_t(i, j))^2 / B`` with g the rows of ``F F'`` at length 1, F the features ``[B, D]``.
    When: other widths or tokenizers; which texts are alike should stay.
    Cost: no parameters; B^2 numbers.

    Args:
        weight: a number or a schedule.
        taps: ``{student: NAME, teacher: NAME}``, each ``[B, D]``, or ``[B, L, D]``, averaged over the real tokens.
    """

    def difference(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return similarity_difference(student, teacher, mask)
