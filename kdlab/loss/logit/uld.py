"""Universal logit distillation: probabilities compared by rank, so that the vocabularies may differ."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn.functional import pad

from kdlab.loss.logit.aligned import AlignedTerm, Merged
from kdlab.output import at_least_float32


def sorted_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The L1 distance of two distributions after sorting, the shorter one filled with zeros, per position.

    It is the least cost of moving one distribution to the other where every class is as far from any other.

    Args:
        student, teacher: probabilities ``[..., C]`` and ``[..., D]``; half precision is computed in float32.

    Returns:
        ``[...]`` in [0, 2]; 0 where one is a permutation of the other.

    Example:
        >>> import torch
        >>> sorted_distance(torch.tensor([0.1, 0.9]), torch.tensor([0.5, 0.25, 0.25]))
        tensor(0.8000)

    Source: Boizard et al. 2024 (ULD), arXiv:2402.12030, section 3 (closed form of the Wasserstein distance).
    """
    classes = max(student.shape[-1], teacher.shape[-1])
    first, second = (
        pad(at_least_float32(one).sort(-1, descending=True).values, (0, classes - one.shape[-1]))
        for one in (student, teacher)
    )
    return (first - second).abs().sum(-1)


@final
class ULD(AlignedTerm):
    """The mean of :func:`sorted_distance` over pieces of text, for a teacher with another tokenizer.

    Formula: ``sum_i |p_s(i) - p_t(i)|`` with both sorted from the largest; of a piece with several tokens, the first
        token's probabilities times those of the tokens after it.
    When: the teacher has another vocabulary, of which few words are the student's; else gold.
    Cost: no parameters; a sort of all probabilities of both.

    Args:
        weight, temperature: numbers or schedules.

    Source: Boizard et al. 2024 (ULD), arXiv:2402.12030, section 3; there position by position, here over the pieces
        of text that both sides have in common.
    """

    def distance(self, student: Merged, teacher: Merged, pairs: Tensor, progress: float) -> Tensor:
        return sorted_distance(student.probabilities, teacher.probabilities)
