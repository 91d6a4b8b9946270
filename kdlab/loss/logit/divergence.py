"""What divergences between the student's and the teacher's distributions over the classes are made of."""

from __future__ import annotations

from math import log, log1p

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from kdlab.output import widen


def soften(logits: Tensor, temperature: float) -> Tensor:
    """Log-probabilities ``[..., C]`` at a temperature; half precision is computed in float32."""
    return log_softmax(widen(logits) / temperature, -1)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) in nats over the last axis, ``[...]``."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def mix(log_p: Tensor, log_q: Tensor, share: float) -> Tensor:
    """log(share * p + (1 - share) * q); at the ends of [0, 1] exactly one of the two."""
    if share <= 0 or share >= 1:
        return log_q if share <= 0 else log_p
    return torch.logaddexp(log_p + log(share), log_q + log1p(-share))
