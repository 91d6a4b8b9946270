"""Predictions of two models with different tokens, put together where they are about the same piece of a text."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from kdlab.loss.logit.divergence import soften
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, positive, value_at


class Merged(NamedTuple):
    """The predictions of groups of tokens.

    Attributes:
        first: ``[G, C]``, log-probabilities of the first token of each group.
        rest: ``[G]``, the log-probability of its later tokens, given those before; 0 where there are none.
    """

    first: Tensor
    rest: Tensor

    @property
    def probabilities(self) -> Tensor:
        """``[G, C]``: of each class as the first token, times that of the later tokens; they sum to 1 at most."""
        return (self.first + self.rest[..., None]).exp()


def merged(logits: Tensor, label: Tensor, group: Tensor, count: int, temperature: float = 1.0) -> Merged:
    """Put the predictions of each group of tokens together.

    Args:
        logits: ``[N, C]``; half precision is computed in float32.
        label: ``[N]`` int64, the token that follows; read where a group has several positions.
        group: ``[N]`` int64, the group of each position, rising; -1 for none. Each of 0 to ``count - 1`` is there.
        count: number of groups.
        temperature: > 0, divides the logits.

    Example: two tokens, the second of probability 0.9 (the worked example of GOLD):
        >>> logits = torch.tensor([[0.6, 0.3, 0.1], [0.05, 0.9, 0.05]]).log()
        >>> merged(logits, torch.tensor([0, 1]), torch.tensor([0, 0]), 1).probabilities
        tensor([[0.5400, 0.2700, 0.0900]])

    Source: GOLD, Patiño et al. 2025 (Unlocking On-Policy Distillation for Any Model Family): the first token's
        distribution times the probabilities of the tokens after it.
    """
    scores = at_least_float32(logits) / temperature
    place = torch.arange(len(group), device=group.device)
    some = group >= 0
    first = place.new_full((count,), len(group)).scatter_reduce(0, group[some], place[some], "amin")
    later = some.clone()
    later[first] = False
    own = scores[later].gather(-1, label[later].clamp(min=0)[:, None])[:, 0] - scores[later].logsumexp(-1)
    rest = scores.new_zeros(count).index_add(0, group[later], own)
    return Merged(scores[first].log_softmax(-1), rest)


class AlignedTerm(Term):
    """The mean of a distance between predictions of the same pieces of a text, also of models with different tokens.

    A piece's value counts once, however many tokens it has on either side: where each piece is one token, it is the
    mean over tokens. Tokens of one side alone, such as the end of a text or a piece that was cut, do not count.

    Args:
        weight, temperature: numbers or schedules.
    """

    outcome = Choice
    aligned = True

    def __init__(self, weight: float | Schedule = 1.0, temperature: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")

    @abstractmethod
    def distance(self, student: Merged, teacher: Merged, pairs: Tensor, progress: float) -> Tensor:
        """The distance ``[G]`` of the predictions of each piece.

        Args:
            pairs: ``[2, K]``, the classes of student and teacher that are the same word.
        """

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        temperature, found = value_at(self.temperature, progress), teacher.alignment
        if found is None:
            same_classes(student, teacher)
            both = [soften(one.logits, temperature) for one in (student, teacher)]
            every = torch.arange(student.logits.shape[-1], device=student.logits.device).expand(2, -1)
            s, t = (Merged(one, one.new_zeros(one.shape[:-1])) for one in both)
            return student.mean(self.distance(s, t, every, progress))
        assert student.label is not None and teacher.label is not None
        count = found.count
        s = merged(student.logits.flatten(0, 1), student.label.flatten(), found.student.flatten(), count, temperature)
        t = merged(teacher.logits.flatten(0, 1), teacher.label.flatten(), found.teacher.flatten(), count, temperature)
        values = self.distance(s, t, found.pairs, progress)
        return student.mean(_at_last(values, found.student, student.mask))


def _at_last(values: Tensor, group: Tensor, mask: Tensor) -> Tensor:
    """The values ``[G]`` at the last position of each group, ``[B, L]``; 0 elsewhere, and of groups not in the mask."""
    flat, place = group.flatten(), torch.arange(group.numel(), device=group.device)
    some = flat >= 0
    last = place.new_full((len(values),), -1).scatter_reduce(0, flat[some], place[some], "amax")
    outside = torch.zeros(len(values), device=values.device).index_add(
        0, flat[some], (~mask.flatten()[some]).to(torch.float32)
    )
    counted = values.where(outside == 0, 0)
    return values.new_zeros(group.numel()).index_put((last,), counted).view(group.shape)
