"""DistiLLM-2's contrastive pair: one divergence on the teacher's texts, the opposite one on the student's."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlab.loss.logit.skew_kl import skew_kl
from kdlab.loss.logit.skew_reverse_kl import skew_reverse_kl
from kdlab.output import at_least_float32


def contrastive(
    student: Tensor,
    teacher: Tensor,
    from_teacher: Tensor,
    temperature: float,
    skew: float | Tensor,
    balance: float = 0.5,
) -> Tensor:
    """Skew KL where the teacher wrote the text, skew reverse KL where the student did, in nats, per position.

    The first raises the student's probability of what the teacher writes, the second lowers that of what the student
    writes and the teacher would not.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        from_teacher: ``[...]`` bool, or a shape that broadcasts to it (``[B, 1]``): whether the teacher wrote the text.
        temperature: > 0; both sides are divided by it.
        skew: share of the distribution's own side in the mixture, in [0, 1); a number, or one for each position
            ``[...]`` in (0, 1), such as from :func:`adaptive_skew`.
        balance: share of the student's texts, in [0, 1]: positions of the teacher's texts weigh ``2 (1 - balance)``,
            those of the student's ``2 balance``. The paper raises it from 0.5 to 0.75.

    Returns:
        ``[...]``, >= 0, and 0 where the softened distributions agree.

    Example:
        >>> student, teacher = torch.tensor([0.0, 1.0]).log(), torch.tensor([1.0, 0.0]).log()
        >>> both = torch.stack([student] * 2), torch.stack([teacher] * 2)
        >>> contrastive(*both, torch.tensor([True, False]), 1.0, 0.25, balance=0.75)  # 0.5 and 1.5 times log 4
        tensor([0.6931, 2.0794])

    Source: Ko et al. 2025 (DistiLLM-2), arXiv:2503.07067, section 3 (CALD).
    """
    by_teacher = from_teacher.expand(student.shape[:-1])
    result = at_least_float32(student).new_zeros(student.shape[:-1])
    for chosen, divergence, weight in (
        (by_teacher, skew_kl, 2 * (1 - balance)),
        (~by_teacher, skew_reverse_kl, 2 * balance),
    ):
        some = skew.expand(chosen.shape)[chosen] if isinstance(skew, Tensor) else skew
        result = result.masked_scatter(chosen, weight * divergence(student[chosen], teacher[chosen], temperature, some))
    return result


def adaptive_skew(ahead: Tensor, reference: float, base: float = 0.1, least: float = 0.01) -> Tensor:
    """The skew of each text that keeps the pull on all texts about the same, ``[...]``, without gradient.

    Where both models are near each other, a small skew keeps the gradient large; where they are far, a large one bounds
    it: to first order, ``1 - skew`` times the gap is constant.

    Args:
        ahead: ``[...]``, by how much the side that the skew mixes in gives more probability to the text than the other
            side: the difference of the exponentials of the mean log-probabilities of its tokens.
        reference: the mean of ``ahead`` over texts, to which ``base`` belongs.
        base: the skew at the reference, and the largest, in (0, 1).
        least: the smallest, in (0, base].

    Returns:
        ``[...]`` in ``[least, base]``.

    Example:
        >>> adaptive_skew(torch.tensor([0.19, 0.2, 0.5]), reference=0.2)
        tensor([0.0526, 0.1000, 0.1000])

    Source: Ko et al. 2025 (DistiLLM-2), arXiv:2503.07067, section 3 (adaptive alpha); the bounds are of their code.
    """
    gap = at_least_float32(ahead).detach()
    skew = 1 - (1 - base) * reference / gap.where(gap > 0, torch.inf)
    return skew.where(gap > 0, least).clamp(least, base)
