"""How good predictions of the next token are: accuracy, perplexity, and bits per byte of text."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import Metric, MetricCollection

from kdlab.datamodule.processor.base import Processor
from kdlab.metric.scores import Informed


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


class BitsPerByte(Informed):
    """``-log2 p(text) / bytes``: the bits that a model needs for a text, divided by the text's size in UTF-8.

    Unlike perplexity it compares models of different tokenizers. The text is what the predicted tokens stand for, see
    :func:`kdlab.datamodule.processor.token_bytes.token_bytes`: without the first token of a row, which nothing
    predicts. Special tokens have no bytes, but their bits count. NaN before the first byte.

    Source: Gao et al. 2020 (The Pile), arXiv:2101.00027, section 3.1.
    """

    full_state_update = False
    higher_is_better = False
    bits: Tensor
    size: Tensor
    token_bytes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("bits", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("size", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.register_buffer("token_bytes", torch.zeros(0, dtype=torch.long), persistent=False)

    def learn(self, processor: Processor) -> None:
        found = processor.token_bytes()
        if found is not None:
            self.token_bytes, self.ready = torch.from_numpy(found), True

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Take in logits ``[..., V]`` and next tokens ``[...]``, -1 where there is none."""
        if not self.ready:
            return
        known = target >= 0
        loss = cross_entropy(logits[known].float(), target[known], reduction="none")
        self.bits += loss.double().sum() / math.log(2)
        self.size += self.token_bytes.to(target.device)[target[known]].sum()

    def compute(self) -> Tensor:
        return (self.bits / self.size).float()


def causal_lm() -> MetricCollection:
    """``accuracy`` of the next token, ``perplexity``, and ``bits_per_byte``, which needs a data set of texts."""
    metrics: dict[str, Metric | MetricCollection] = {
        "accuracy": Accuracy(),
        "perplexity": Perplexity(),
        "bits_per_byte": BitsPerByte(),
    }
    return MetricCollection(metrics, compute_groups=False)
