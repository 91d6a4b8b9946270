"""A map that is the cheapest transport between the student's and the teacher's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.layer_map.base import LayerMap, Pair, misfit
from kdlab.output import Output

LADDER = [0.5**level for level in range(7)]  # entropies, as shares of the mean cost; each starts where the last ended
STEPS = 20  # on each of them


def transport(cost: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
    """The flow ``[M, N]`` that moves the weights of one side to the other at (nearly) the least cost.

    A little entropy keeps it on the device and without a solver; where costs lie within a per cent or two of each
    other, it spreads between them.

    Args:
        cost: ``[M, N]``, >= 0; the flow depends on ratios of costs only.
        student, teacher: ``[M]``, ``[N]``, > 0, each summing to 1; the flow's row and column sums.

    Example:
        >>> half = torch.tensor([0.5, 0.5])
        >>> transport(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), half, half).round(decimals=3).tolist()
        [[0.5, 0.0], [0.0, 0.5]]

    Source: Cuturi 2013, arXiv:1306.0895, algorithm 1, in logarithms; the sums are made exact as in Altschuler, Weed,
        Rigollet 2017, arXiv:1705.09634, algorithm 2.
    """
    scaled = cost / cost.mean().clamp(min=torch.finfo(cost.dtype).tiny)
    log_s, log_t = student.log(), teacher.log()
    u, v = torch.zeros_like(log_s), torch.zeros_like(log_t)
    for entropy in LADDER:
        for _ in range(STEPS):
            u = entropy * (log_s - ((v - scaled) / entropy).logsumexp(1))
            v = entropy * (log_t - ((u[:, None] - scaled) / entropy).logsumexp(0))
    flow = ((u[:, None] + v - scaled) / entropy).exp()
    flow = flow * (student / flow.sum(1)).clamp(max=1)[:, None]
    flow = flow * (teacher / flow.sum(0)).clamp(max=1)
    rest_s, rest_t = student - flow.sum(1), teacher - flow.sum(0)
    return flow + rest_s[:, None] * rest_t / rest_s.sum().clamp(min=torch.finfo(cost.dtype).tiny)


def cost_attention(flow: Tensor, cost: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """New weights of the layers of one side: what is cheap to move gets more.

    Args:
        flow, cost: ``[M, N]``, the side's own layers first.
        weight: ``[M]``, its present weights.
        temperature: > 0; large values keep the weights equal.

    Returns:
        ``[M]``, summing to 1.

    Example:
        >>> flow, cost = torch.full((2, 2), 0.25), torch.ones(2, 2)
        >>> cost_attention(flow, cost, torch.tensor([0.5, 0.5]), 1.0)
        tensor([0.5000, 0.5000])

    Source: Li et al. 2020 (BERT-EMD), arXiv:2010.06133, section 3.3 (cost attention).
    """
    unit = (flow * cost).sum(1) / weight
    new = (unit.sum() / unit.clamp(min=torch.finfo(unit.dtype).tiny) / temperature).softmax(0).clamp(min=1e-6)
    return new / new.sum()


@final
class EMD(LayerMap):
    """The earth mover's distance between the layers of both sides; every layer may teach every other, many to many.

    The flow is decided by the costs of the whole batch and taken as a constant, so micro-batches do not add up exactly.
    The layers' weights start equal, are updated after every training step, and are checkpointed.

    Args:
        temperature: > 0, of the update; inf keeps all layers at the same weight.

    Source: Li et al. 2020 (BERT-EMD), arXiv:2010.06133, sections 3.2 and 3.3; the exact solver is replaced by
        :func:`transport`.
    """

    row_wise = False
    dense = True

    student_weight: Tensor
    teacher_weight: Tensor

    def __init__(self, temperature: float = 10.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise UserError(f"layer_map.temperature is {temperature}, but must be above 0: 10 is mild, 1 picks layers.")
        self.temperature = float(temperature)

    def pairs(self, student: int, teacher: int) -> list[Pair]:
        if not student or not teacher:
            raise misfit("layer_map=emd needs layers on both sides", student, teacher, "use a loss without")
        return [(i, j) for i in range(student) for j in range(teacher)]

    def build_adapters(self, student: Sequence[int], teacher: Sequence[int]) -> None:
        self.register_buffer("student_weight", torch.full((len(student),), 1 / len(student)))
        self.register_buffer("teacher_weight", torch.full((len(teacher),), 1 / len(teacher)))

    def total(
        self, values: Sequence[Tensor], student_taps: Sequence[Tensor], teacher_taps: Sequence[Tensor], student: Output
    ) -> Tensor:
        cost = torch.stack([student.mean(value) for value in values]).view(len(self.student_weight), -1)
        with torch.no_grad():
            student_share, teacher_share = (
                w.to(cost) / w.to(cost).sum() for w in (self.student_weight, self.teacher_weight)
            )
            flow = transport(cost, student_share, teacher_share)
            if self.training:
                self.student_weight.copy_(cost_attention(flow, cost, student_share, self.temperature))
                self.teacher_weight.copy_(cost_attention(flow.T, cost.T, teacher_share, self.temperature))
        return (flow * cost).sum() / flow.sum()
