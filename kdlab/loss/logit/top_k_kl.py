"""Knowledge distillation from the teacher's largest logits, for vocabularies too large to keep."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.coarse import TopKTerm, coarsened
from kdlab.loss.logit.divergence import kl


def coarsened_kl(student: Tensor, index: Tensor, value: Tensor, tail: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) over k + 1 outcomes, k classes and all others as one, in nats, per position.

    Args:
        student, index, value, tail, temperature: as :func:`kdlab.loss.logit.coarse.coarsened` takes them.

    Returns:
        ``[...]``, >= 0; at most :func:`kdlab.loss.logit.kl.tempered_kl`, growing with k, and equal to it at k = C - 1.

    Example:
        >>> import torch
        >>> index, value, tail = torch.tensor([0]), torch.tensor([0.0]), torch.tensor(-torch.inf)
        >>> coarsened_kl(torch.zeros(4), index, value, tail, 1.0)  # a certain teacher, one of four: log 4
        tensor(1.3863)

    Source: the log-sum inequality, Cover and Thomas 2006 (Elements of Information Theory), theorem 2.7.1: merging
        outcomes cannot raise a divergence. T^2 as in Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    log_s, log_t = coarsened(student, index, value, tail, temperature)
    return temperature**2 * kl(log_t, log_s)


@final
class TopKKL(TopKTerm):
    """The mean of :func:`coarsened_kl`, for single-label tasks; of a teacher that gives all logits, of the whole KL.

    Formula: ``T^2 KL(p_t || p_s)`` over the teacher's k likeliest classes and one outcome for all others.
    When: the vocabulary is so large that the teacher's logits cannot be kept: with teacher.top_k, stored or live.
    Cost: no parameters; one pass over the student's logits, and k + n numbers a position of the teacher's, for n
        temperatures.

    Args:
        weight: a number or a schedule.
        temperature: a number, one of teacher.temperatures.

    Source: the coarsened divergence is Cover and Thomas 2006, theorem 2.7.1; keeping the k largest: Tan et al. 2019,
        arXiv:1902.10461 (top-K distillation), there without a tail.
    """

    name = "top_k_kl"

    def divergence(self, log_s: Tensor, log_t: Tensor, progress: float) -> Tensor:
        return kl(log_t, log_s)
