"""General on-policy logit distillation: words that both vocabularies have by divergence, the others by rank."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.logit.aligned import AlignedTerm, Merged
from kdlab.loss.logit.divergence import log_total
from kdlab.loss.logit.jsd import beta_within, jensen_shannon
from kdlab.loss.logit.uld import sorted_distance
from kdlab.schedule.base import Schedule, number, value_at


def matched(prediction: Merged, classes: Tensor) -> Tensor:
    """Log-probabilities of some classes and, as one outcome, of all else, ``[..., K + 1]``; they sum to 1.

    Without the last outcome the divergence of two of them could be negative.

    Args:
        classes: ``[K]`` int64, different classes.

    Example: two of three classes as the first token, with 0.9 for the tokens after it:
        >>> prediction = Merged(torch.tensor([[0.6, 0.3, 0.1]]).log(), torch.tensor([0.9]).log())
        >>> matched(prediction, torch.tensor([0, 2])).exp()
        tensor([[0.5400, 0.0900, 0.3700]])
    """
    first, rest = prediction
    some = first[..., classes]
    others = log_total(first.index_fill(-1, classes, -torch.inf))
    split = rest < 0
    unlike = (-rest.where(split, -1.0).expm1()).log().masked_fill(~split, -torch.inf)  # other tokens after the first
    nothing = (others[..., 0] == -torch.inf) & ~split
    ahead, other = others[..., 0].where(~nothing, 0) + rest, unlike.where(~nothing, 0)
    left = torch.logaddexp(ahead, other).masked_fill(nothing, -torch.inf)
    return torch.cat([some + rest[..., None], left[..., None]], -1)


def unmatched(prediction: Merged, classes: Tensor) -> Tensor:
    """Probabilities ``[..., C - K]`` of all but some classes.

    Example:
        >>> prediction = Merged(torch.tensor([[0.6, 0.3, 0.1]]).log(), torch.tensor([0.9]).log())
        >>> unmatched(prediction, torch.tensor([0, 2]))
        tensor([[0.2700]])
    """
    found = prediction.probabilities
    keep = torch.ones(found.shape[-1], dtype=torch.bool, device=found.device).index_fill(0, classes, False)
    return found[..., keep]


@final
class Gold(AlignedTerm):
    """The mean over pieces of text of a divergence of shared words and a distance by rank of the others.

    Formula: ``w JSD_beta(p_t, p_s) + u sum_i |p_s(i) - p_t(i)|``: the first over the words that both vocabularies
        have and one outcome for all else, the second over the other words, sorted.
    When: the teacher has another tokenizer, and many words of its vocabulary are the student's too.
    Cost: no parameters; a sort of the probabilities of the words that are not shared.

    Args:
        weight, temperature: numbers or schedules.
        beta: in [0, 1], of the divergence: 0 is KL, 0.5 Jensen-Shannon, 1 reverse KL.
        matched_weight: w; None: the share of the teacher's vocabulary that is shared.
        unmatched_weight: u; None: 1 less that share.

    Source: GOLD, Patiño et al. 2025 (Unlocking On-Policy Distillation for Any Model Family), here with an outcome for
        all else, without which the divergence may be negative; the second part Boizard et al. 2024 (ULD),
        arXiv:2402.12030.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        beta: float | Schedule = 0.5,
        matched_weight: float | None = None,
        unmatched_weight: float | None = None,
    ) -> None:
        super().__init__(weight, temperature)
        self.beta = beta_within(beta, normalise=False)
        for name, value in (("matched_weight", matched_weight), ("unmatched_weight", unmatched_weight)):
            if value is not None and number(value, name) < 0:
                raise UserError(f"{name} is {value:g}, but must be from 0 up: 0 switches this part off, null is usual.")
        self.matched_weight, self.unmatched_weight = matched_weight, unmatched_weight

    def distance(self, student: Merged, teacher: Merged, pairs: Tensor, progress: float) -> Tensor:
        share = pairs.shape[-1] / teacher.first.shape[-1]
        of_shared = share if self.matched_weight is None else self.matched_weight
        of_others = 1 - share if self.unmatched_weight is None else self.unmatched_weight
        both = [matched(one, classes) for one, classes in zip((student, teacher), pairs, strict=True)]
        others = [unmatched(one, classes) for one, classes in zip((student, teacher), pairs, strict=True)]
        shared = jensen_shannon(both[0], both[1], 1.0, value_at(self.beta, progress))
        return of_shared * shared + of_others * sorted_distance(others[0], others[1])
