"""Skew KL from the teacher's largest logits, for vocabularies too large to keep."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.coarse import TopKTerm, coarsened
from kdlab.loss.logit.skew_kl import skew_kl
from kdlab.schedule.base import Schedule, value_at, within


def coarsened_skew_kl(
    student: Tensor, index: Tensor, value: Tensor, tail: Tensor, temperature: float, skew: float
) -> Tensor:
    """:func:`kdlab.loss.logit.skew_kl.skew_kl` over k classes and all others as one, per position.

    Args:
        student, index, value, tail, temperature: as :func:`kdlab.loss.logit.coarse.coarsened` takes them.
        skew: in [0, 1); 0 is the divergence without a mixture.

    Returns:
        ``[...]`` in nats, >= 0; at most the divergence of the whole distributions, growing with k.

    Example:
        >>> import torch
        >>> index, value, tail = torch.tensor([0]), torch.tensor([0.0]), torch.tensor(-torch.inf)
        >>> coarsened_skew_kl(torch.tensor([-100.0, 0.0]), index, value, tail, 1.0, 0.25)  # -log 0.25, the most
        tensor(1.3863)

    Source: Ko et al. 2024 (DistiLLM), arXiv:2402.03898, section 3.1; merging: Cover and Thomas 2006 (Elements of
        Information Theory), theorem 2.7.1.
    """
    log_s, log_t = coarsened(student, index, value, tail, temperature)
    return temperature**2 * skew_kl(log_s, log_t, 1.0, skew)


@final
class TopKSkewKL(TopKTerm):
    """The mean of :func:`coarsened_skew_kl`, for single-label tasks; of a teacher with all logits, of the whole.

    Formula: ``T^2 KL(p_t || skew p_t + (1 - skew) p_s)``, the teacher's k likeliest classes and the rest as one.
    When: as skew_kl, where the vocabulary is so large that the teacher's logits cannot be kept.
    Cost: no parameters; one pass over the student's logits.

    Args:
        weight: a number or a schedule.
        temperature: a number, one of teacher.temperatures.
        skew: in [0, 0.99], a number or a schedule.
    """

    name = "top_k_skew_kl"

    def __init__(self, weight: float | Schedule = 1.0, temperature: float = 1.0, skew: float | Schedule = 0.1) -> None:
        super().__init__(weight, temperature)
        self.skew = within(skew, 0, 0.99, "skew", "0 is no mixture, 0.1 is common, at 1 nothing is to learn")

    def divergence(self, log_s: Tensor, log_t: Tensor, progress: float) -> Tensor:
        return skew_kl(log_s, log_t, 1.0, value_at(self.skew, progress))
