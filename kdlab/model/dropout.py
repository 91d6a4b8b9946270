"""Dropout with quickly drawn masks: those of torch take a tenth of the step of a small student on a CPU."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

LEVELS = 2**16  # of one draw; a 64-bit number holds four of them


@final
class Dropout(nn.Module):
    """:class:`torch.nn.Dropout`, whose masks on a CPU are drawn from 16-bit numbers of the same generator.

    Args:
        p: the probability that an element becomes 0, in [0, 1]; on a CPU rounded to a multiple of 2^-16, for which
            the scale of the others makes up.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """``[...] -> [...]``; without change in eval mode."""
        if not self.training or self.p == 0:
            return values
        dropped = round(self.p * LEVELS)
        if values.device.type != "cpu" or dropped == LEVELS or torch.compiler.is_compiling():
            return dropout(values, self.p)
        draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.int16)[: values.numel()].view(values.shape) >= dropped - LEVELS // 2
        return values * kept.to(values.dtype).mul_(LEVELS / (LEVELS - dropped))

    def extra_repr(self) -> str:
        return f"p={self.p}"


def quicken(model: nn.Module) -> None:
    """Replace every :class:`torch.nn.Dropout` of a model by :class:`Dropout`; neither has weights."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
