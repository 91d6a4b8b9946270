"""Factor transfer: the student learns a summary that the teacher's features were compressed to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.feature.hint import squared_difference
from kdlab.loss.feature.layered import Layered, mlp, unit, with_tokens
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule


def factor_difference(student: Tensor, teacher: Tensor, tokens: Tensor, power: float) -> Tensor:
    """The p-norm distance of the factors of a row, each divided by its Euclidean norm, to the power p, as a mean.

    Args:
        student, teacher: ``[B, L, K]``; half precision is computed in float32.
        tokens: ``[B, L]`` bool, the real ones.
        power: p >= 1; the paper's choice is 1.

    Returns:
        ``[B]``: the sum over tokens and factors divided by ``n^(1 - p/2)`` for n of them, which keeps the size of the
        value free of n; 0 where the directions agree.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 3.0]]])
        >>> factor_difference(student, teacher, torch.tensor([[True]]), 2.0)  # 1 + 1
        tensor([2.])

    Source: Kim, Park, Kwak 2018, arXiv:1802.04977, equation 3; the paper has the plain sum.
    """
    real = tokens[..., None]
    s, t = (unit(at_least_float32(states).where(real, 0), (1, 2)) for states in (student, teacher))
    count = tokens.sum(-1).clamp(min=1).to(s) * s.shape[-1]
    return (s - t).abs().pow(power).sum((1, 2)) / count ** (1 - power / 2)


class Factors(nn.Module):
    """The translator of the student's features, and the paraphraser (an autoencoder) of the teacher's."""

    def __init__(self, source: int, target: int, size: int) -> None:
        super().__init__()
        self.translate = mlp([source, size, size], slope=0.1)
        self.compress = mlp([target, target, size], slope=0.1)
        self.restore = mlp([size, size, target], slope=0.1)


class FT(Layered):
    """The mean of :func:`factor_difference` over pairs of layers and rows, plus the paraphraser's reconstruction error.

    The paper trains the paraphraser before; here it learns along, from the teacher's features alone: its factors are
    constants for the student's part. Every token passes the same linear layers (the paper's are convolutions).

    Formula: ``|f_s / |f_s| - f_t / |f_t||_p^p + mean (t - restore(f_t))^2`` with factors f of K = rate D_t numbers a
        token.
    When: other widths or other families, where the teacher's features are not worth copying number by number.
    Cost: an autoencoder and a translator a pair, about ``2 D_t^2 + 3 K^2 + 2 D_t K + D_s K`` parameters, never
        exported; the hidden states of both.

    Args:
        weight, layer_map, taps: see :class:`kdlab.loss.feature.layered.Layered`.
        rate: the number of factors is this times the teacher's width; in (0, 1].
        power: p >= 1 of :func:`factor_difference`.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layer_map: str | Sequence[Any] | None = "top",
        taps: Mapping[str, str] | None = None,
        rate: float = 0.5,
        power: float = 1.0,
    ) -> None:
        super().__init__(weight, layer_map, taps)
        if not 0 < rate <= 1 or not 1 <= power < float("inf"):
            raise UserError(
                f"rate is {rate} and power {power}, but rate must be in (0, 1] and power at least 1: the paper has 0.5 "
                "and 1."
            )
        self.rate, self.power = rate, power

    def adapter(self, source: int, target: int) -> nn.Module:
        return Factors(source, target, max(1, round(self.rate * target)))

    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        (student_tap, tokens), (teacher_tap, _) = with_tokens(student_tap, student), with_tokens(teacher_tap, student)
        factors = adapter.compress(teacher_tap)
        error = squared_difference(adapter.restore(factors), teacher_tap).where(tokens, 0).sum(-1)
        difference = factor_difference(adapter.translate(student_tap), factors.detach(), tokens, self.power)
        return difference + error / tokens.sum(-1).clamp(min=1)
