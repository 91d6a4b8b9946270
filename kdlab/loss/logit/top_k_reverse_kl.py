"""Reverse KL from the teacher's largest logits, for vocabularies too large to keep."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.coarse import TopKTerm, coarsened
from kdlab.loss.logit.divergence import kl


def coarsened_reverse_kl(student: Tensor, index: Tensor, value: Tensor, tail: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(student || teacher) over k + 1 outcomes, k classes and all others as one, in nats, per position.

    Without the last outcome the student would lower the sum by moving its probability away from the k classes.

    Args:
        student, index, value, tail, temperature: as :func:`kdlab.loss.logit.coarse.coarsened` takes them.

    Returns:
        ``[...]``, >= 0; at most :func:`kdlab.loss.logit.reverse_kl.tempered_reverse_kl`, growing with k.

    Example:
        >>> import torch
        >>> index, value, tail = torch.tensor([0]), torch.tensor([0.0]), torch.tensor(0.0)
        >>> coarsened_reverse_kl(torch.tensor([100.0, 0.0, 0.0]), index, value, tail, 1.0)  # log 2
        tensor(0.6931)

    Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2, for one position; merging: Cover and Thomas 2006
        (Elements of Information Theory), theorem 2.7.1.
    """
    log_s, log_t = coarsened(student, index, value, tail, temperature)
    return temperature**2 * kl(log_s, log_t)


@final
class TopKReverseKL(TopKTerm):
    """The mean of :func:`coarsened_reverse_kl`, for single-label tasks; of a teacher with all logits, of the whole.

    Formula: ``T^2 KL(p_s || p_t)`` over the teacher's k likeliest classes and one outcome for all others.
    When: as reverse_kl, where the vocabulary is so large that the teacher's logits cannot be kept.
    Cost: no parameters; one pass over the student's logits.

    Args:
        weight: a number or a schedule.
        temperature: a number, one of teacher.temperatures.
    """

    name = "top_k_reverse_kl"

    def divergence(self, log_s: Tensor, log_t: Tensor, progress: float) -> Tensor:
        return kl(log_s, log_t)
