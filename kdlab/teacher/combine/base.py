"""The weight of each of several teachers, row by row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor


class Combine(ABC):
    """Weights of M members on B rows, computed from their outputs.

    The output of a member on a row is K distributions over S states each: one over the C classes (K = 1, S = C), or in
    a multi-label task one for every class over no and yes (K = C, S = 2).
    """

    def prepare(self, names: Sequence[str]) -> None:  # noqa: B027  most do not depend on names
        """Take the members' names, in the order of ``log_p``.

        Raises:
            UserError: a setting names other members.
        """

    @abstractmethod
    def weights(self, log_p: Tensor, state: Tensor) -> Tensor:
        """``[M, B]``, at least 0, with sum 1 over the members.

        Args:
            log_p: ``[M, B, K, S]`` log-probabilities.
            state: ``[B, K]`` int64, the true states of training rows with a label, else -1.
        """


def mixed(log_p: Tensor, weights: Tensor) -> Tensor:
    """The logarithm ``[B, K, S]`` of the weighted mean of probabilities.

    Args:
        log_p: ``[M, B, K, S]``.
        weights: ``[M, B]`` with sum 1 over the members.

    Example: two members that are sure of opposite classes:
        >>> log_p = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]]]).log()
        >>> mixed(log_p, torch.tensor([[0.75], [0.25]])).exp()
        tensor([[[0.7500, 0.2500]]])
    """
    return (log_p + weights.log()[..., None, None]).logsumexp(0)


def entropy(log_p: Tensor) -> Tensor:
    """``[..., K, S]`` -> ``[...]`` in nats, summed over the K distributions.

    Example:
        >>> entropy(torch.tensor([[0.5, 0.5]]).log())
        tensor(0.6931)
    """
    return -(log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum((-2, -1))


def confidence(log_p: Tensor) -> Tensor:
    """``[..., K, S]`` -> ``[...]`` in (0, 1]: the highest probability, averaged over the K distributions.

    Example:
        >>> confidence(torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log())
        tensor(0.6250)
    """
    return log_p.max(-1).values.exp().mean(-1)
