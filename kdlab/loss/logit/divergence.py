"""The parts of divergences between the student's and the teacher's distributions over the classes."""

from __future__ import annotations

from math import log, log1p

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from kdlab.output import at_least_float32


def soften(logits: Tensor, temperature: float) -> Tensor:
    """Log-probabilities ``[..., C]`` at a temperature; half precision is computed in float32.

    Example:
        >>> soften(torch.tensor([0.64, 0.36]).log(), 2.0).exp()  # (0.8, 0.6) / 1.4
        tensor([0.5714, 0.4286])
    """
    return log_softmax(at_least_float32(logits) / temperature, -1)


def expectation(log_p: Tensor, value: Tensor) -> Tensor:
    """The terms ``p * value`` of a mean under p, ``[..., C]``.

    Where p is 0 they are 0, and so are their gradients, even where ``value`` is infinite or NaN: 0 log 0 is 0.

    Example:
        >>> expectation(torch.tensor([0.0, -torch.inf]), torch.tensor([2.0, torch.inf])).tolist()
        [2.0, 0.0]
    """
    some = log_p.detach().exp() > 0
    return log_p.where(some, 0).exp().where(some, 0) * value.where(some, 0)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) in nats over the last axis, ``[...]``; classes that p leaves out (-inf) count nothing.

    Example:
        >>> log_p, log_q = torch.tensor([0.5, 0.5, 0.0]).log(), torch.tensor([0.25, 0.25, 0.5]).log()
        >>> round(kl(log_p, log_q).item(), 4)  # log 2
        0.6931
    """
    return expectation(log_p, log_p - log_q).sum(-1)


def log_total(scores: Tensor) -> Tensor:
    """The logarithm of the sum of the exponentials over the last axis, ``[..., 1]``; -inf, without gradient, of none.

    Example:
        >>> log_total(torch.full((3,), -torch.inf)).tolist()
        [-inf]
    """
    nothing = (scores == -torch.inf).all(-1, keepdim=True)
    return scores.where(~nothing, 0).logsumexp(-1, keepdim=True).masked_fill(nothing, -torch.inf)


def entropy(log_p: Tensor) -> Tensor:
    """The entropy in nats over the last axis, ``[...]``.

    Example:
        >>> entropy(torch.tensor([0.5, 0.5]).log())  # log 2
        tensor(0.6931)
    """
    return -expectation(log_p, log_p).sum(-1)


def mix(log_p: Tensor, log_q: Tensor, share: float | Tensor) -> Tensor:
    """log(share * p + (1 - share) * q); at the ends of [0, 1] exactly one of the two.

    Args:
        share: a number, or one for each position ``[...]``, inside of (0, 1).

    Example:
        >>> mix(torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log(), 0.25).exp()
        tensor([0.2500, 0.7500])
    """
    if not isinstance(share, Tensor):
        if share <= 0 or share >= 1:
            return log_q if share <= 0 else log_p
        return _mix(log_p, log_q, log(share), log1p(-share))
    part = share[..., None].to(log_p.dtype)
    return _mix(log_p, log_q, part.log(), (-part).log1p())


def _mix(log_p: Tensor, log_q: Tensor, log_share: float | Tensor, log_rest: float | Tensor) -> Tensor:
    nowhere = (log_p == -torch.inf) & (log_q == -torch.inf)
    one, two = log_p.where(~nowhere, 0), log_q.where(~nowhere, 0)
    return torch.logaddexp(one + log_share, two + log_rest).masked_fill(nowhere, -torch.inf)
