"""How good predictions of the next token are: accuracy and perplexity."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import Metric, MetricCollection


class NextToken(Metric):
    """The mean over all tokens with one before them; NaN before the first.

    ``update`` takes logits ``[..., V]`` and next tokens ``[...]``, -1 where there is none. Sums are kept in float64: a
    mean in float32 stops growing at some millions of tokens.
    """

    full_state_update = False
    total: Tensor
    tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        known = target >= 0
        self.total += self.values(logits[known], target[known]).double().sum()
        self.tokens += known.sum()

    @abstractmethod
    def values(self, logits: Tensor, target: Tensor) -> Tensor:
        """``[N]`` of ``[N, V]`` and ``[N]``."""

    def compute(self) -> Tensor:
        return (self.total / self.tokens).float()


class Accuracy(NextToken):
    """The share of tokens that are the likeliest."""

    higher_is_better = True
    share = True

    def values(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits.argmax(-1) == target).float()


class Perplexity(NextToken):
    """``exp`` of the mean negative log-likelihood in nats, as :class:`torchmetrics.text.Perplexity`, but not limited by
    the smallest float32 probability."""

    higher_is_better = False

    def values(self, logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits.float(), target, reduction="none")

    def compute(self) -> Tensor:
        return (self.total / self.tokens).exp().float()


def causal_lm() -> MetricCollection:
    """``accuracy`` of the next token, and ``perplexity``."""
    return MetricCollection({"accuracy": Accuracy(), "perplexity": Perplexity()}, compute_groups=False)
