"""Neuron selectivity transfer: which tokens each feature answers to, whichever feature it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.feature.layered import Layered, real_tokens, unit
from kdlab.output import Output, at_least_float32
from kdlab.precision import exact
from kdlab.schedule.base import Schedule

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]  # [B, D, L], [B, E, L], bandwidth [B] -> [B, D, E]


def linear(one: Tensor, two: Tensor, bandwidth: Tensor) -> Tensor:
    """``x . y``.

    Example:
        >>> linear(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 1.0]]]), torch.ones(1))
        tensor([[[3.]]])
    """
    return one @ two.transpose(-1, -2)


def poly(one: Tensor, two: Tensor, bandwidth: Tensor) -> Tensor:
    """``(x . y)^2``: the paper's d = 2, c = 0.

    Example:
        >>> poly(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 1.0]]]), torch.ones(1))
        tensor([[[9.]]])
    """
    return (one @ two.transpose(-1, -2)).square()


def gaussian(one: Tensor, two: Tensor, bandwidth: Tensor) -> Tensor:
    """``exp(-|x - y|^2 / (2 bandwidth))``.

    Example:
        >>> gaussian(torch.tensor([[[0.0]]]), torch.tensor([[[2.0]]]), torch.tensor([2.0]))  # exp(-1)
        tensor([[[0.3679]]])
    """
    return (-squared_distance(one, two) / (2 * bandwidth[:, None, None])).exp()


KERNELS: dict[str, Kernel] = {"linear": linear, "poly": poly, "gaussian": gaussian}


def squared_distance(one: Tensor, two: Tensor) -> Tensor:
    """``[B, D, E]`` between vectors ``[B, D, L]`` and ``[B, E, L]``.

    Example:
        >>> squared_distance(torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[3.0, 4.0]]]))
        tensor([[[25.]]])
    """
    squares = one.square().sum(-1)[..., None] + two.square().sum(-1)[:, None]
    return (squares - 2 * one @ two.transpose(-1, -2)).clamp(min=0)


@exact()
def mmd(student: Tensor, teacher: Tensor, tokens: Tensor, kernel: str) -> Tensor:
    """The squared maximum mean discrepancy between the features of both sides, per row.

    A feature (neuron) is one sample: how it runs over the real tokens of the row, as a unit vector. The gaussian
    kernel's bandwidth is the mean squared distance between a student's and a teacher's sample.

    Args:
        student: ``[B, L, D]``. teacher: ``[B, L, E]``; the widths may differ. Half precision is computed in float32.
        tokens: ``[B, L]`` bool, the real ones.
        kernel: ``linear``, ``poly`` or ``gaussian``.

    Returns:
        ``[B]``, >= 0, free of the order of the features and of a positive scale of each; 0 where both sides have the
        same features.

    Example:
        >>> student, teacher = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[0.0], [1.0]]])
        >>> mmd(student, teacher, torch.tensor([[True, True]]), "linear")  # 1 + 1 - 2 * 0
        tensor([2.])

    Source: Huang, Wang 2017, arXiv:1707.01219, equations 5 to 7, tokens in the place of pixels.
    """
    s, t = (
        unit(at_least_float32(states).where(tokens[..., None], 0).transpose(1, 2), -1) for states in (student, teacher)
    )
    bandwidth = squared_distance(s, t).mean((1, 2)).clamp(min=torch.finfo(s.dtype).eps)
    k = KERNELS[kernel]
    within_s, within_t, cross = k(s, s, bandwidth), k(t, t, bandwidth), k(s, t, bandwidth)
    return within_s.mean((1, 2)) + within_t.mean((1, 2)) - 2 * cross.mean((1, 2))


class NST(Layered):
    """The mean of :func:`mmd` over pairs of layers and rows. It needs no projection.

    Formula: ``mean k(s, s') + mean k(t, t') - 2 mean k(s, t)`` over features, each a unit vector over the tokens.
    When: other widths, and no projection wanted; which feature is which does not matter.
    Cost: no parameters; ``B (D_s + D_t)^2`` numbers of kernels, the largest memory of all feature terms at large
        widths.

    Args:
        weight, layer_map, taps: see :class:`kdlab.loss.feature.layered.Layered`.
        kernel: ``linear``, ``poly`` (the paper's best) or ``gaussian``.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layer_map: str | Sequence[Any] | None = "top",
        taps: Mapping[str, str] | None = None,
        kernel: str = "poly",
    ) -> None:
        super().__init__(weight, layer_map, taps)
        if kernel not in KERNELS:
            raise UserError(f"kernel is '{kernel}', but must be one of {', '.join(KERNELS)}: poly is the paper's best.")
        self.kernel = kernel

    def adapter(self, source: int, target: int) -> nn.Module:
        return nn.Identity()

    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        return mmd(
            student_tap, teacher_tap, real_tokens(student_tap, student, "neuron selectivity transfer"), self.kernel
        )
