"""Parts of the loss that are hard to predict count less, by variances that are learned along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from kdlab.loss.balance.base import Balance
from kdlab.loss.rates import Rates


@final
class Uncertainty(Balance):
    """``sum_j share_j * (exp(-s_j) * L_j + s_j / 2)``; the log-variances s_j start at 0 and learn with the student.

    Each factor exp(-s_j) tends to 1 / (2 L_j), so that all parts become equally large; the shares say how much each
    matters then. For parts of unlike scales, such as hidden states beside logits. It costs a number a part. Parts must
    not be negative; one that falls to 0, as KL can, is weighted ever more.

    Args:
        lr: of the log-variances, which have to move by whole units while pretrained weights hardly move.
        weight_decay: of the log-variances, >= 0.

    Source: Kendall, Gal, Cipolla 2018, arXiv:1705.07115, equation 10 (the form for a classification likelihood).
    """

    def __init__(self, lr: float = 0.01, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.rates = Rates(lr, weight_decay, "loss.balance")
        self.names: list[str] = []
        self.log_variance = nn.Parameter(torch.zeros(0))

    def connect(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)))

    @property
    def groups(self) -> list[dict[str, Any]]:
        return [self.rates.group([self.log_variance], "balance")]

    @property
    def current(self) -> dict[str, Tensor]:
        return dict(zip(self.names, (-self.log_variance.detach()).exp().unbind(), strict=True))

    def forward(self, parts: Mapping[str, Tensor], share: Mapping[str, float | Tensor], progress: float) -> Tensor:
        variances = zip(self.names, self.log_variance.unbind(), strict=True)
        return torch.stack([share[name] * ((-s).exp() * parts[name] + s / 2) for name, s in variances]).sum()
