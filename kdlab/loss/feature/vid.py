"""Variational information distillation: how likely the teacher's features are, seen from the student's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import expm1, log, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from kdlab.error import UserError
from kdlab.loss.feature.layered import Layered, mlp
from kdlab.loss.rates import Rates
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule

SMALLEST = 1e-5


def gaussian_nll(mean: Tensor, variance: Tensor, teacher: Tensor) -> Tensor:
    """-log N(teacher; mean, variance), averaged over the features, in nats, per position.

    Args:
        mean, teacher: ``[..., D]``; half precision is computed in float32.
        variance: ``[D]``, > 0.

    Returns:
        ``[...]``; smallest, the mean of ``log(2 pi variance) / 2``, where mean and teacher agree.

    Example:
        >>> gaussian_nll(torch.zeros(2), torch.ones(2), torch.zeros(2))  # log(2 pi) / 2
        tensor(0.9189)

    Source: Ahn et al. 2019, arXiv:1904.05835, equation 5, divided by D, constant included.
    """
    spread = at_least_float32(variance)
    square = (at_least_float32(teacher) - at_least_float32(mean)).square() / spread
    return (square + spread.log() + log(2 * pi)).mean(-1) / 2


class Guess(nn.Module):
    """The mean and the variance of the teacher's features, given the student's."""

    def __init__(self, source: int, target: int, variance: float) -> None:
        super().__init__()
        self.mean = mlp([source, target, target, target], slope=0.0)
        self.raw = nn.Parameter(torch.full((target,), log(expm1(variance - SMALLEST))))

    @property
    def variance(self) -> Tensor:
        """``[D]``: one a feature, the same for every row."""
        return softplus(at_least_float32(self.raw)) + SMALLEST


class VID(Layered):
    """The mean of :func:`gaussian_nll` over pairs of layers, and over rows or real tokens.

    A network of three linear layers guesses the teacher's features, token by token, and a variance a feature is learned
    beside it. The value may be negative.

    Formula: ``mean_d (t - mu(s))_d^2 / (2 v_d) + log(2 pi v_d) / 2``.
    When: other widths, and features of which some cannot be met: their variance grows, so they count less.
    Cost: a network of ``D_s D_t + 2 D_t^2`` parameters and D_t variances a pair, never exported; the hidden states of
        both.

    Args:
        weight, layer_map, taps: see :class:`kdlab.loss.feature.layered.Layered`.
        variance: > 1e-5, where the variances start.
        lr, weight_decay: of the variances, before a softplus; the rates of published code.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layer_map: str | Sequence[Any] | None = "uniform",
        taps: Mapping[str, str] | None = None,
        variance: float = 5.0,
        lr: float = 0.05,
        weight_decay: float = 5e-4,
    ) -> None:
        super().__init__(weight, layer_map, taps)
        self.scalars = Rates(lr, weight_decay, "loss.terms.vid")
        if not SMALLEST < variance <= 100:
            raise UserError(f"variance is {variance}, but must be above {SMALLEST} and at most 100: 5 is the authors'.")
        self.start = variance

    def adapter(self, source: int, target: int) -> nn.Module:
        return Guess(source, target, self.start)

    @property
    def learned(self) -> list[nn.Parameter]:
        return [guess.raw for guess in self.adapters if isinstance(guess, Guess)]

    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        return gaussian_nll(adapter.mean(student_tap), adapter.variance, teacher_tap)
