"""Adaptive ensemble distillation in gradient space: a step that no teacher objects to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.logit.members import Members, divergences
from kdlab.output import Output, at_least_float32
from kdlab.precision import exact
from kdlab.schedule.base import Schedule, number, value_at

STEPS = 64  # of the solver; what they leave is below 0.2% of the squared length of the vectors


def gradients(student: Tensor, members: Tensor, temperature: float, mask: Tensor) -> Tensor:
    """The gradient of each teacher's tempered KL divergence for the student's logits, averaged over rows in ``mask``.

    Args:
        student: ``[B, C]``. members: ``[M, B, C]``.
        temperature: > 0.
        mask: ``[B]`` bool.

    Returns:
        ``[M, C]``.

    Example:
        >>> members = torch.tensor([[[0.8, 0.2]]]).log()
        >>> gradients(torch.zeros(1, 2), members, 1.0, torch.tensor([True]))  # 0.5 - 0.8 and 0.5 - 0.2
        tensor([[-0.3000,  0.3000]])
    """
    each = temperature * ((at_least_float32(student) / temperature).softmax(-1) - (members / temperature).softmax(-1))
    return each.where(mask[:, None], 0).sum(1) / mask.sum().clamp(min=1)


@exact()
def min_norm(vectors: Tensor, limit: float = 1.0, steps: int = STEPS) -> Tensor:
    """The weights of the shortest convex combination of some vectors.

    Pairwise Frank-Wolfe steps: each moves as much weight as is best to the vector that the combination agrees least
    with, from the one where that shortens it most. For two vectors the first step is the closed form
    ``clip((b - a) * b / |b - a|^2, 1 - limit, limit)``.

    Args:
        vectors: ``[M, D]``.
        limit: the largest weight, in [1 / M, 1].
        steps: number of moves of weight.

    Returns:
        ``[M]``, in [0, limit], of sum 1.

    Example:
        >>> min_norm(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), min_norm(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
        (tensor([0.5000, 0.5000]), tensor([1., 0.]))

    Source: Sener, Koltun 2018 (MGDA), arXiv:1810.04650, algorithm 2, with pairwise steps (Lacoste-Julien, Jaggi 2015,
    arXiv:1511.05932), which are those of the one-class SVM solver that Du et al. 2020 use.
    """
    count = len(vectors)
    gram = vectors @ vectors.T
    weight = gram.new_full((count,), 1 / count)
    index = torch.arange(count, device=gram.device)
    square = gram.diagonal()
    for _ in range(steps if count > 2 else 1):
        slope = gram @ weight
        to = (index == slope.where(weight < limit, torch.inf).argmin()).to(gram)
        excess = (slope - slope @ to).clamp(min=0).where(weight > 0, 0)
        curve = square + square @ to - 2 * gram @ to
        best = excess / curve.where(curve > 0, 1)
        source = (index == (best * excess).argmax()).to(gram)
        move = (best @ source).minimum(source @ weight).minimum((limit - to @ weight).clamp(min=0))
        weight = weight + move * (to - source)
    return weight


class AEKD(Members):
    """The sum of the mean KL divergences from the teachers, weighted so that their gradients' sum is the shortest.

    The weights are those of :func:`min_norm`, for the gradients for the student's logits, averaged over the rows of a
    micro-batch: so it relates rows, and accumulating over smaller micro-batches is not the loss of the whole batch.

    Formula: ``sum_m a_m T^2 KL(p_m || p_s)`` with ``a = argmin |sum_m a_m g_m|``, the gradients g for the student's
        logits, ``0 <= a_m <= limit`` and sum 1.
    When: several teachers that disagree, none of which is to be given up.
    Cost: no parameters; each teacher is run, or read from its store; M B C numbers for the gradients, and some steps on
        an M x M matrix.

    Args:
        weight, temperature: numbers or schedules.
        limit: C, the largest weight of a teacher, in (0, 1]: 1 lets few teachers decide, a small one nears the mean.
            Below one over the number of teachers it is the mean. 0.6 in the authors' code.
        taps: ``{teacher: [logits.NAME, …]}``, the members to learn from; none named: all that the ensemble has.

    Raises:
        UserError: a limit out of its range.

    Source: Du et al. 2020 (AE-KD), NeurIPS, equations 5 to 9.
    """

    row_wise = False

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        limit: float = 0.6,
        taps: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(weight, temperature, taps)
        if not 0 < number(limit, "limit") <= 1:
            raise UserError(f"limit is {limit}, but the largest weight of a teacher must be in (0, 1]: 1 limits none.")
        self.limit = limit

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        members, temperature = self.members(student, teacher), value_at(self.temperature, progress)
        with torch.no_grad():
            slopes = gradients(student.logits, members, temperature, student.mask)
            weight = min_norm(slopes, max(self.limit, 1 / len(members)))
        each = divergences(student.logits, members, temperature)
        return student.mean((weight[:, None] * each).sum(0))
