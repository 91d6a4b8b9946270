"""The learning rates of numbers that belong to the loss itself, such as a temperature or a weight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

from torch import nn, optim

from kdlab.error import UserError
from kdlab.schedule.base import number


@final
class Rates:
    """A learning rate and a weight decay apart from those of the student, which are made for pretrained weights.

    Args:
        lr: > 0, under any optimizer; None: ``paper`` under SGD, whose steps are proportional to the gradient, and
            ``adaptive`` under the others, whose steps are about as long as the learning rate.
        weight_decay: >= 0.
        name: config key of their owner, for messages.
        paper, adaptive: the learning rates where none is given.

    Raises:
        UserError: a rate out of its range.

    Example:
        >>> rates = Rates(None, 5e-4, "loss.terms.ctkd", paper=0.05, adaptive=0.001)
        >>> rates.lr(optim.SGD), rates.lr(optim.AdamW)
        (0.05, 0.001)
    """

    def __init__(
        self, lr: float | None, weight_decay: float, name: str, paper: float = 0.05, adaptive: float = 0.05
    ) -> None:
        if lr is not None and number(lr, f"{name}.lr") <= 0:
            raise UserError(f"{name}.lr is {lr:g}, but must be above 0: at 0 nothing would be learned; null is usual.")
        if number(weight_decay, f"{name}.weight_decay") < 0:
            raise UserError(f"{name}.weight_decay is {weight_decay:g}, but must be from 0 up: 0 lets the numbers be.")
        self.paper, self.adaptive = (float(rate if lr is None else lr) for rate in (paper, adaptive))
        self.weight_decay = float(weight_decay)

    def lr(self, optimizer: Any) -> float:
        """The learning rate under a kind of optimizer."""
        return self.paper if isinstance(optimizer, type) and issubclass(optimizer, optim.SGD) else self.adaptive

    def group(self, parameters: Iterable[nn.Parameter], name: str) -> dict[str, Any]:
        """The optimizer's parameter group; :func:`settled` has the last word on its learning rate."""
        rates = {"lr": self.paper, "weight_decay": self.weight_decay}
        return {"params": list(parameters), "name": name, **rates, "rates": self}


def settled(groups: list[dict[str, Any]], optimizer: Any) -> list[dict[str, Any]]:
    """Parameter groups, with the learning rates that fit a kind of optimizer.

    Example:
        >>> import torch
        >>> settled([{"params": [], "rates": Rates(0.1, 0.0, "loss.terms.vid")}], optim.SGD)
        [{'params': [], 'lr': 0.1}]
    """
    return [
        {key: value for key, value in group.items() if key != "rates"}
        | ({"lr": group["rates"].lr(optimizer)} if "rates" in group else {})
        for group in groups
    ]
