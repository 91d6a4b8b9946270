"""The meaning of a vector of logits: one of several classes, any of several labels, a token, a number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from kdlab.output import at_least_float32


class Outcome(ABC):
    """The meaning of logits ``[..., C]``.

    Attributes:
        names: of the C logits, in their order; empty where they have none, or they are not known yet.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """``[..., C]`` in [0, 1], float32 or wider."""

    @abstractmethod
    def log_probabilities(self, logits: Tensor) -> Tensor:
        """``[..., K, S]``: the logarithms of K distributions over S states each.

        One distribution over the C classes (K = 1, S = C), or one for each label over no and yes (K = C, S = 2).
        """

    @abstractmethod
    def logits(self, log_probabilities: Tensor) -> Tensor:
        """Logits ``[..., C]`` of distributions ``[..., K, S]``: what :meth:`log_probabilities` is the inverse of."""

    @abstractmethod
    def states(self, label: Tensor) -> Tensor:
        """The state of each of the K distributions, ``[..., K]`` int64, of a batch's labels; -1: unknown."""

    @abstractmethod
    def chosen(self, logits: Tensor) -> Tensor:
        """The prediction: class numbers ``[...]``, or yes and no ``[..., C]``."""


class Choice(Outcome, ABC):
    """Exactly one of C: labels are ``[...]`` int64."""

    def probabilities(self, logits: Tensor) -> Tensor:
        return at_least_float32(logits).softmax(-1)

    def log_probabilities(self, logits: Tensor) -> Tensor:
        return log_softmax(at_least_float32(logits), -1)[..., None, :]

    def logits(self, log_probabilities: Tensor) -> Tensor:
        return log_probabilities.squeeze(-2)

    def states(self, label: Tensor) -> Tensor:
        return label.long()[..., None]

    def chosen(self, logits: Tensor) -> Tensor:
        return logits.argmax(-1)


@final
class Categorical(Choice):
    """One of the named classes.

    Example:
        >>> Categorical(["bad", "good"]).chosen(torch.tensor([[0.5, 2.0]])).tolist()
        [1]
    """


@final
class Tokens(Choice):
    """One of the tokens of a vocabulary."""


@final
class Bernoulli(Outcome):
    """Each of the named labels or not, whatever the others are: labels are ``[..., C]`` of 0 and 1.

    Example:
        >>> Bernoulli(["toxic", "insult"]).chosen(torch.tensor([[0.5, -2.0]])).tolist()
        [[True, False]]
    """

    def probabilities(self, logits: Tensor) -> Tensor:
        return at_least_float32(logits).sigmoid()

    def log_probabilities(self, logits: Tensor) -> Tensor:
        logits = at_least_float32(logits)
        return torch.stack([logsigmoid(-logits), logsigmoid(logits)], -1)

    def logits(self, log_probabilities: Tensor) -> Tensor:
        return log_probabilities[..., 1] - log_probabilities[..., 0]

    def states(self, label: Tensor) -> Tensor:
        return label.long()

    def chosen(self, logits: Tensor) -> Tensor:
        return logits > 0


@final
class Real(Outcome):
    """Real numbers, one a logit; they have no probabilities."""

    def probabilities(self, logits: Tensor) -> Tensor:
        raise TypeError("real numbers have no probabilities")

    def log_probabilities(self, logits: Tensor) -> Tensor:
        raise TypeError("real numbers have no probabilities")

    def logits(self, log_probabilities: Tensor) -> Tensor:
        raise TypeError("real numbers have no probabilities")

    def states(self, label: Tensor) -> Tensor:
        raise TypeError("real numbers have no states")

    def chosen(self, logits: Tensor) -> Tensor:
        return logits
