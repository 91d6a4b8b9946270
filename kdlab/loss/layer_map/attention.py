"""A map that learns, by attention, which student layers each of the teacher's layers should teach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.layer_map.base import LayerMap, Pair, misfit
from kdlab.output import Output, at_least_float32


@final
class Attention(LayerMap):
    """For every row, each teacher layer spreads a weight of 1 over the student's layers; the mean over teacher layers.

    The weights are the softmax over the student's layers of ``(q . k + p . r) / sqrt(size)``: a query ``q`` from
    the teacher's layer, a key ``k`` from the student's (each through a projection of its own, averaged
    over the real tokens), and learned positions ``p`` and ``r`` of the two layers. The paper's bilinear map between
    query and key is part of the projections here. In ALP-KD (arXiv:2012.14022) the weights go the other way and mix
    the teacher's states rather than the losses.

    Args:
        size: width of queries and keys.

    Source: Ji, Heo, Park 2021 (AFD), arXiv:2102.02973, equations 1 to 4.
    """

    dense = True

    def __init__(self, size: int = 64) -> None:
        super().__init__()
        if size < 1:
            raise UserError(f"layer_map.size is {size}, but queries and keys need a width of at least 1, such as 64.")
        self.size = size
        self.query, self.key = nn.ModuleList(), nn.ModuleList()
        self.student_place = self.teacher_place = torch.empty(0)

    def pairs(self, student: int, teacher: int) -> list[Pair]:
        if not student or not teacher:
            raise misfit("layer_map=attention needs layers on both sides", student, teacher, "use a loss without")
        return [(i, j) for i in range(student) for j in range(teacher)]

    def build_adapters(self, student: Sequence[int], teacher: Sequence[int]) -> None:
        del self.student_place, self.teacher_place
        self.key = nn.ModuleList(nn.Linear(width, self.size) for width in student)
        self.query = nn.ModuleList(nn.Linear(width, self.size) for width in teacher)
        self.student_place = nn.Parameter(0.02 * torch.randn(len(student), self.size))
        self.teacher_place = nn.Parameter(0.02 * torch.randn(len(teacher), self.size))

    def share(self, student_taps: Sequence[Tensor], teacher_taps: Sequence[Tensor], student: Output) -> Tensor:
        """``[B, M, N]``: how much of each of N teacher layers goes to each of M student layers; sums to 1 over M.

        Args:
            student_taps, teacher_taps: one ``[B, L, D]`` or ``[B, D]`` a layer, from the bottom.
        """
        keys = torch.stack([key(average(tap, student)) for key, tap in zip(self.key, student_taps, strict=True)], 1)
        queries = torch.stack(
            [query(average(tap, student)) for query, tap in zip(self.query, teacher_taps, strict=True)], 1
        )
        scores = (
            at_least_float32(keys) @ at_least_float32(queries).transpose(1, 2)
            + at_least_float32(self.student_place) @ at_least_float32(self.teacher_place).T
        )
        return (scores / self.size**0.5).softmax(1)

    def total(
        self, values: Sequence[Tensor], student_taps: Sequence[Tensor], teacher_taps: Sequence[Tensor], student: Output
    ) -> Tensor:
        layers = len(self.query)
        share = self.share(student_taps[::layers], teacher_taps[:layers], student).flatten(1).unbind(1)
        parts = [
            student.mean(weight.view(-1, *[1] * (value.ndim - 1)) * value)
            for weight, value in zip(share, values, strict=True)
        ]
        return torch.stack(parts).sum() / layers


def average(tap: Tensor, output: Output) -> Tensor:
    """``[B, D]``: the mean over the real tokens; a tap without tokens as it is.

    Raises:
        UserError: the tap is no feature vector.
    """
    if tap.ndim == 2:
        return tap
    if tap.ndim == 3 and output.tokens is None:  # the places of a map
        return tap.mean(1)
    if tap.ndim != 3 or output.tokens is None or tap.shape[:2] != output.tokens.shape:
        raise UserError(
            f"layer_map=attention compares feature vectors, but reads a tap {tuple(tap.shape)}: choose layer_map=emd "
            "or a fixed one, such as uniform."
        )
    real = output.tokens[..., None]
    return tap.where(real, 0).sum(1) / real.sum(1).clamp(min=1)
