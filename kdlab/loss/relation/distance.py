"""Relational knowledge: how far the rows of a batch lie from each other."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from kdlab.error import UserError
from kdlab.loss.term import Term, pair, read
from kdlab.output import Output, widen
from kdlab.schedule.base import Schedule


def relative_distance(features: Tensor, mask: Tensor) -> Tensor:
    """Euclidean distances between rows, divided by their mean over the pairs of two different rows in ``mask``.

    Args:
        features: ``[B, D]``.
        mask: ``[B]`` bool.

    Returns:
        ``[B, B]``; 0 for pairs that do not count.
    """
    pairs = mask[:, None] & mask & ~torch.eye(len(mask), dtype=torch.bool, device=mask.device)
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

    Source: Park et al. 2019 (RKD), arXiv:1904.05068, equations 5 to 8.
    """
    difference = smooth_l1_loss(
        relative_distance(widen(student), mask), relative_distance(widen(teacher), mask), reduction="none"
    )
    return difference.sum(-1) / (mask.sum() - 1).clamp(min=1)


class Distance(Term):
    """The mean of :func:`distance_difference` between two taps.

    It relates the rows of one micro-batch, so accumulating over smaller ones is not the loss of the whole batch.

    Args:
        weight: a number or a schedule.
        taps: ``{student: NAME, teacher: NAME}``, each ``[B, D]``, or ``[B, L, D]``, averaged over the real tokens.
    """

    row_wise = False

    def __init__(self, weight: float | Schedule = 1.0, taps: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.taps = pair(taps or {"student": "pooled", "teacher": "pooled"})

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        own = pool(student, self.taps["student"][0], "student")
        goal = pool(teacher, self.taps["teacher"][0], "teacher")
        return student.mean(distance_difference(own, goal, student.mask))


def pool(output: Output, name: str, role: str) -> Tensor:
    """The tap ``name`` with one vector a row, ``[B, D]``.

    Raises:
        UserError: the tap has another shape than ``[B, D]`` and ``[B, L, D]``.
    """
    value = widen(read(output, name, role))
    if value.ndim == 3 and output.tokens is not None and value.shape[:2] == output.tokens.shape:
        real = output.tokens[..., None]
        return value.where(real, 0).sum(1) / real.sum(1).clamp(min=1)
    if value.ndim == 2:
        return value
    raise UserError(
        f"The distance term reads the {role}'s tap '{name}' {tuple(value.shape)}, but needs one vector a row or "
        "a token: "
        f"set its taps.{role} to pooled or hidden.-1."
    )
