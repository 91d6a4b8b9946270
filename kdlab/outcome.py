"""The meaning of a vector of logits: one of several classes, any of several labels, a token, a number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from kdlab.error import UserError
from kdlab.output import at_least_float32

NO_PROBABILITIES = (
    "the model predicts numbers, which have no probabilities: leave out what compares, mixes or weighs probabilities, "
    "or choose a task with classes"
)


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


class Classes(Outcome, ABC):
    """Classes, of which a position has one or several."""


class Choice(Classes, ABC):
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
class Bernoulli(Classes):
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
    """Real numbers, one a logit, which is ``(number - center) / scale``; they have no probabilities.

    Labels are ``[...]`` floats; nan where a position has none.

    Args:
        names: of the numbers.
        center: the number that a logit of 0 means, in the unit of the numbers.
        scale: > 0, by how much the number grows with a logit, in the unit of the numbers.

    Example:
        >>> Real(["height"], center=170.0, scale=10.0).chosen(torch.tensor([[0.5]])).tolist()
        [[175.0]]
    """

    def __init__(self, names: Sequence[str] = (), center: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(names)
        self.center, self.scale = center, scale

    def standardised(self, number: Tensor) -> Tensor:
        """The logits of numbers, of the same shape."""
        return (number - self.center) / self.scale

    def chosen(self, logits: Tensor) -> Tensor:
        return at_least_float32(logits) * self.scale + self.center

    def probabilities(self, logits: Tensor) -> Tensor:
        raise UserError(NO_PROBABILITIES)

    def log_probabilities(self, logits: Tensor) -> Tensor:
        raise UserError(NO_PROBABILITIES)

    def logits(self, log_probabilities: Tensor) -> Tensor:
        raise UserError(NO_PROBABILITIES)

    def states(self, label: Tensor) -> Tensor:
        raise UserError(NO_PROBABILITIES)
