"""Parts of the loss pull equally hard on the weights, and harder the more they lag behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from kdlab.loss.balance.base import Balance
from kdlab.loss.rates import Rates
from kdlab.output import at_least_float32
from kdlab.schedule.base import number, within


@final
class GradNorm(Balance):
    """``sum_j share_j * w_j * L_j``; w learns to make each ``G_j = w_j * |grad L_j|`` equal to ``mean(G) * r_j^a``.

    ``r_j`` is ``L_j / L_j(0)`` over its mean: how far a part lags behind. w minimises the sum of all
    ``|G_j - mean(G) * r_j^a|``, the target taken as fixed; it starts at 1 and always sums to the number of parts. The
    gradients are those of all of the student's weights that learn (the paper takes the last layer that all tasks share;
    here parts may read any layer). For parts of unlike scales and speeds. It costs one more backward pass a part.

    Args:
        asymmetry: a >= 0; 0 asks for equal norms, more pulls harder on what lags behind. The paper takes 0.12 and 1.5.
        lr: of w; the paper takes 0.025.
        weight_decay: of w, >= 0.

    Source: Chen et al. 2018, arXiv:1711.02257, equations 1 and 2, algorithm 1.
    """

    asks_model = True
    first: Tensor
    gap: Tensor

    def __init__(self, asymmetry: float = 1.5, lr: float = 0.025, weight_decay: float = 0.0) -> None:
        super().__init__()
        within(asymmetry, 0, 100, "loss.balance.asymmetry", "0 asks for equal norms, and the paper takes 0.12 and 1.5")
        self.asymmetry, self.rates = number(asymmetry, "asymmetry"), Rates(lr, weight_decay, "loss.balance")
        self.names: list[str] = []
        self.weight = nn.Parameter(torch.ones(0))
        self._model: tuple[nn.Module, ...] = ()

    def connect(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.weight = nn.Parameter(torch.ones(len(self.names)))
        self.register_buffer("first", torch.zeros(len(self.names)))
        self.register_buffer("gap", torch.zeros(()))

    def watch(self, model: nn.Module) -> None:
        self._model = (model,)  # in a tuple: the student is no part of its loss

    @property
    def groups(self) -> list[dict[str, Any]]:
        return [self.rates.group([self.weight], "balance")]

    @property
    def current(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.weight.detach().clone().unbind(), strict=True)) | {"gap": self.gap}

    def forward(self, parts: Mapping[str, Tensor], share: Mapping[str, float | Tensor], progress: float) -> Tensor:
        values = torch.stack([at_least_float32(parts[name]) for name in self.names])
        with torch.no_grad():  # after each step of the optimizer
            self.weight.clamp_(min=1e-3)
            self.weight.mul_(len(self.names) / self.weight.sum())
        weights = self.weight.detach().clone().unbind()
        total = torch.stack([share[n] * w * parts[n] for n, w in zip(self.names, weights, strict=True)]).sum()
        if not self.training or not self._model:
            return total
        self.first.copy_(self.first.where(self.first > 0, values.detach()))
        gap = distance(self.weight, self._norms(parts), values.detach(), self.first, self.asymmetry)
        self.gap.copy_(gap.detach())
        return total + (gap - gap.detach())  # its gradient, without its value

    def _norms(self, parts: Mapping[str, Tensor]) -> Tensor:
        """``[J]``: the norm of each part's gradient; 0 where nothing of it reaches the student."""
        learning = [one for one in self._model[0].parameters() if one.requires_grad]
        norms = []
        for name in self.names:
            found: tuple[Tensor | None, ...] = ()
            if parts[name].requires_grad:
                found = torch.autograd.grad(parts[name], learning, retain_graph=True, allow_unused=True)
            squares = [at_least_float32(one).square().sum() for one in found if one is not None]
            norms.append(torch.stack(squares).sum().sqrt() if squares else torch.zeros_like(self.weight[0]))
        return torch.stack(norms)


def distance(weight: Tensor, norm: Tensor, loss: Tensor, first: Tensor, asymmetry: float) -> Tensor:
    """``sum_j |w_j * n_j - mean(w * n) * r_j^a|``, whose gradient is that of the first ``w_j`` alone.

    Args:
        weight, norm: ``[J]``: w, and the norms of the gradients of the parts.
        loss, first: ``[J]``: the parts now and at first, not below 0.

    Example:
        >>> same = torch.ones(2)
        >>> distance(same, torch.tensor([2.0, 4.0]), same, same, 1.5)  # |2 - 3| + |4 - 3|
        tensor(2.)
    """
    tiny = torch.finfo(loss.dtype).tiny
    ratio = loss.clamp(min=tiny) / first.clamp(min=tiny)
    rate = ratio / ratio.mean()
    wanted = ((weight * norm).mean() * rate**asymmetry).detach()
    return (weight * norm - wanted).abs().sum()
