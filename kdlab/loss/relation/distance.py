"""Relational knowledge: how far the rows of a batch lie from each other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from kdlab.loss.relation.rows import RowRelation, others
from kdlab.output import at_least_float32


def relative_distance(features: Tensor, mask: Tensor) -> Tensor:
    """Euclidean distances between rows, divided by their mean over the pairs of two different rows in ``mask``.

    Args:
        features: ``[B, D]``.
        mask: ``[B]`` bool.

    Returns:
        ``[B, B]``; 0 for pairs that do not count.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [2.0]])
        >>> relative_distance(rows, torch.ones(3, dtype=torch.bool))[0]  # (0, 1, 2) / (4/3)
        tensor([0.0000, 0.7500, 1.5000])
    """
    pairs = others(mask)
    features = features.where(mask[:, None], 0)
    # the product form would lose small distances to cancellation
    distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").where(pairs, 0)
    mean = distance.sum() / pairs.sum().clamp(min=1)
    return distance / mean.clamp(min=torch.finfo(distance.dtype).tiny)


def distance_difference(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """The Huber loss (threshold 1) between relative distances, averaged over the other rows, per row.

    Args:
        student: ``[B, D]``. teacher: ``[B, E]``; the widths may differ. Half precision is computed in float32.
        mask: ``[B]`` bool; rows outside it count neither by themselves nor as others.

    Returns:
        ``[B]``, >= 0, free of rotation, shift and scale of either side; 0 where the relative distances agree.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [2.0]])
        >>> distance_difference(rows, 4 * rows, torch.ones(3, dtype=torch.bool))  # free of scale
        tensor([0., 0., 0.])

    Source: Park et al. 2019 (RKD), arXiv:1904.05068, equations 5 to 8.
    """
    difference = smooth_l1_loss(
        relative_distance(at_least_float32(student), mask),
        relative_distance(at_least_float32(teacher), mask),
        reduction="none",
    )
    return difference.sum(-1) / (mask.sum() - 1).clamp(min=1)


class Distance(RowRelation):
    """The mean of :func:`distance_difference` between two taps; it relates the rows of a micro-batch.

    Formula: ``mean_j Huber(|s_i - s_j| / mean - |t_i - t_j| / mean)``.
    When: other widths or tokenizers, where how far texts lie from each other should stay.
    Cost: no parameters; B^2 D numbers of differences at most, B^2 kept.

    Args:
        weight: a number or a schedule.
        taps: ``{student: NAME, teacher: NAME}``, each ``[B, D]``, or ``[B, L, D]``, averaged over the real tokens.
    """

    def difference(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return distance_difference(student, teacher, mask)
