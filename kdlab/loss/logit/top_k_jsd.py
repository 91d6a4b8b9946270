"""The generalised Jensen-Shannon divergence from the teacher's largest logits, for vocabularies too large to keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from torch import Tensor

from kdlab.loss.logit.coarse import TopKTerm, coarsened
from kdlab.loss.logit.jsd import JSD, beta_within, jensen_shannon, normalised_jensen_shannon
from kdlab.schedule.base import Schedule, value_at


def coarsened_jensen_shannon(
    student: Tensor, index: Tensor, value: Tensor, tail: Tensor, temperature: float, beta: float
) -> Tensor:
    """:func:`kdlab.loss.logit.jsd.jensen_shannon` over k + 1 outcomes, k classes and all others as one, per position.

    Args:
        student, index, value, tail, temperature: as :func:`kdlab.loss.logit.coarse.coarsened` takes them.
        beta: in [0, 1]; 0 is KL, 0.5 Jensen-Shannon, 1 reverse KL.

    Returns:
        ``[...]`` in nats, >= 0; at most the divergence of the whole distributions, growing with k.

    Example:
        >>> import torch
        >>> index, value, tail = torch.tensor([0]), torch.tensor([0.0]), torch.tensor(-torch.inf)
        >>> coarsened_jensen_shannon(torch.tensor([-100.0, 0.0]), index, value, tail, 1.0, 0.5)  # log 2, the most
        tensor(0.6931)

    Source: Agarwal et al. 2024 (GKD), arXiv:2306.13649, section 2 (generalised JSD); merging: Cover and Thomas 2006
        (Elements of Information Theory), theorem 2.7.1.
    """
    log_s, log_t = coarsened(student, index, value, tail, temperature)
    return temperature**2 * jensen_shannon(log_s, log_t, 1.0, beta)


@final
class TopKJSD(TopKTerm):
    """The mean of :func:`coarsened_jensen_shannon`, for single-label tasks; of a teacher with all logits, of the whole.

    Formula: ``T^2 (beta KL(p_t || m) + (1 - beta) KL(p_s || m))`` with ``m = beta p_t + (1 - beta) p_s``, over the
        teacher's k likeliest classes and one outcome for all others.
    When: as jsd, where the vocabulary is so large that the teacher's logits cannot be kept.
    Cost: no parameters; one pass over the student's logits.

    Args:
        weight: a number or a schedule.
        temperature: a number, one of teacher.temperatures.
        beta: in [0, 1]; a schedule that reaches an end needs ``normalise``, since the value jumps there.
        normalise: divide by ``beta (1 - beta)``, so that the values of all beta compare.
    """

    name = "top_k_jsd"

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float = 1.0,
        beta: float | Schedule = 0.5,
        normalise: bool = False,
    ) -> None:
        super().__init__(weight, temperature)
        self.beta, self.normalise = beta_within(beta, normalise), normalise

    @classmethod
    def jumps(cls, settings: Mapping[str, Any]) -> Mapping[str, tuple[float, ...]]:
        return JSD.jumps(settings)

    def divergence(self, log_s: Tensor, log_t: Tensor, progress: float) -> Tensor:
        divergence = normalised_jensen_shannon if self.normalise else jensen_shannon
        return divergence(log_s, log_t, 1.0, value_at(self.beta, progress))
