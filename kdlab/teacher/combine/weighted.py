"""Teachers have fixed weights, the same on every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.schedule.base import number
from kdlab.teacher.combine.base import Combine


@final
class Weighted(Combine):
    """A fixed weighted mean of the members' probabilities.

    Args:
        weights: a number from 0 up for each member, by name; only their ratios matter.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.by_name = {str(name): number(value, f"teacher.combine.weights.{name}") for name, value in weights.items()}
        self.share = torch.ones(0)

    def prepare(self, names: Sequence[str]) -> None:
        if set(self.by_name) != set(names):
            raise UserError(
                f"teacher.combine.weights names {', '.join(self.by_name) or 'nobody'}, but the members are "
                f"{', '.join(names)}: give each one a weight, such as "
                f"teacher.combine.weights={{{','.join(f'{name}:1' for name in names)}}}"
            )
        share = torch.tensor([self.by_name[name] for name in names])
        if not bool((share >= 0).all()) or not bool(share.sum() > 0):
            raise UserError(
                f"teacher.combine.weights is {self.by_name}, but weights must be from 0 up and not all of them 0"
            )
        self.share = share / share.sum()

    def weights(self, log_p: Tensor, state: Tensor) -> Tensor:
        return self.share.to(log_p)[:, None].expand(log_p.shape[:2])
