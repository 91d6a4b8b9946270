"""Probabilistic knowledge transfer: which rows are neighbours, as probabilities."""

from __future__ import annotations

from torch import Tensor

from kdlab.loss.relation.rows import RowRelation, others, unit
from kdlab.output import at_least_float32
from kdlab.precision import exact

SMALLEST = 1e-7  # of a kernel value that counts, so that its logarithm stays finite


@exact()
def neighbours(features: Tensor, mask: Tensor) -> Tensor:
    """The probability with which a row chooses another as its neighbour, by the cosine similarity kernel.

    Args:
        features: ``[B, D]``.
        mask: ``[B]`` bool.

    Returns:
        ``[B, B]``, above 0; over the other rows in ``mask`` the probabilities of a row sum to 1.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> neighbours(rows, torch.ones(3, dtype=torch.bool))[0, 1:]  # 1 to 1/2
        tensor([0.6667, 0.3333])
    """
    rows = unit(features.where(mask[:, None], 0))
    kernel = ((rows @ rows.T + 1) / 2).clamp(min=SMALLEST)
    pairs = others(mask)
    total = kernel.where(pairs, 0).sum(-1, keepdim=True)
    return (kernel / total.clamp(min=SMALLEST)).where(pairs, 1)


def neighbour_divergence(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL(teacher || student) of the probabilities with which a row chooses its neighbours, in nats.

    Args:
        student: ``[B, D]``. teacher: ``[B, E]``; the widths may differ. Half precision is computed in float32.
        mask: ``[B]`` bool; rows outside it count neither by themselves nor as neighbours.

    Returns:
        ``[B]``, >= 0, free of rotation and of the length of any row of either side; 0 where the probabilities agree.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> neighbour_divergence(rows, 4 * rows, torch.ones(3, dtype=torch.bool))  # free of lengths
        tensor([0., 0., 0.])

    Source: Passalis, Tefas 2018 (PKT), arXiv:1803.10837, section 3, with the cosine kernel on both sides.
    """
    student_neighbours, teacher_neighbours = (
        neighbours(at_least_float32(student), mask),
        neighbours(at_least_float32(teacher), mask),
    )
    return (teacher_neighbours * (teacher_neighbours.log() - student_neighbours.log())).where(others(mask), 0).sum(-1)


class PKT(RowRelation):
    """The mean of :func:`neighbour_divergence` between two taps; it relates the rows of a micro-batch.

    Formula: ``sum_j p_t(j | i) log(p_t(j | i) / p_s(j | i))`` with ``p(j | i)`` in proportion to ``(1 + cos(i, j)) /
        2``.
    When: other widths or tokenizers; which texts are neighbours should stay, as for retrieval.
    Cost: no parameters; B^2 numbers.

    Args:
        weight: a number or a schedule.
        taps: ``{student: NAME, teacher: NAME}``, each ``[B, D]``, or ``[B, L, D]``, averaged over the real tokens.
    """

    def difference(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        return neighbour_divergence(student, teacher, mask)
