"""Relational knowledge: the angles of the triangles that the rows of a batch form."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from kdlab.loss.relation.rows import RowRelation, others, unit
from kdlab.output import at_least_float32
from kdlab.precision import exact


@exact()
def cosine_of_angle(features: Tensor) -> Tensor:
    """The cosines of the angles that every row sees between any two rows.

    Args:
        features: ``[B, D]``.

    Returns:
        ``[B, B, B]``; ``[j, i, k]`` is the cosine at j between the directions to i and to k, 0 where j is i or k.

    Example:
        >>> import torch
        >>> cosine = cosine_of_angle(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        >>> cosine[0, 1, 2], cosine[1, 0, 2]  # a right angle, and half of one
        (tensor(0.), tensor(0.7071))
    """
    direction = unit(features[None] - features[:, None])
    return direction @ direction.transpose(1, 2)


def angle_difference(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """The Huber loss (threshold 1) between the cosines of the angles that a row sees, averaged over pairs of others.

    Args:
        student: ``[B, D]``. teacher: ``[B, E]``; the widths may differ. Half precision is computed in float32.
        mask: ``[B]`` bool; rows outside it count neither by themselves nor as others.

    Returns:
        ``[B]``, >= 0, free of rotation, shift and scale of either side; 0 where the angles agree, and where there are
        less than 3 rows.

    Example:
        >>> import torch
        >>> corner, line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0], [1.0], [-1.0]])
        >>> angle_difference(line, corner, torch.ones(3, dtype=torch.bool))  # 1/2 and (1 - cos 45°)^2 / 2
        tensor([0.5000, 0.0429, 0.0429])

    Source: Park et al. 2019 (RKD), arXiv:1904.05068, section 3.2.2. Needs ``B * B * max(B, D)`` numbers of memory.
    """
    pairs = others(mask)
    triples = pairs[:, :, None] & pairs[:, None, :] & pairs
    difference = smooth_l1_loss(
        cosine_of_angle(at_least_float32(student).where(mask[:, None], 0)),
        cosine_of_angle(at_least_float32(teacher).where(mask[:, None], 0)),
        reduction="none",
    ).where(triples, 0)
    count = mask.sum()
    return difference.sum((-2, -1)) / ((count - 1) * (count - 2)).clamp(min=1)


class Angle(RowRelation):
    """The mean of :func:`angle_difference` between two taps; it relates the rows of a micro-batch.

    Formula: ``mean Huber(cos(i, j, k)_s - cos(i, j, k)_t)`` of the angle at row i between j and k.
    When: other widths or tokenizers, where how texts lie to each other should stay; with distance, as in the paper.
    Cost: no parameters; B^2 max(B, D) numbers, so keep micro-batches small.

    Args:
        weight: a number or a schedule.
        taps: ``{student: NAME, teacher: NAME}``, each ``[B, D]``, or ``[B, L, D]``, averaged over the real tokens.
    """

    def difference(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return angle_difference(student, teacher, mask)
