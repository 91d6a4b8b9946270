"""Which parts of an input a decision is due to, and how far such an explanation can be trusted.

Each explains the logit of one class a row by its units, the tokens of a text or the patches of an image. The baseline
is an input of zeros: embeddings without a word, or the mean pixel.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdlab.metric.entry import Entry


def gradient(entry: Entry, values: Tensor, label: Tensor) -> Tensor:
    """The gradient of a class's logit at some values, of their shape.

    Args:
        label: ``[B]``, the class that is explained.
    """
    with torch.inference_mode(False), torch.enable_grad():
        at = values.clone().requires_grad_()
        score = entry.logits(at).gather(1, label[:, None]).sum()
        return torch.autograd.grad(score, at)[0]


def gradient_x_input(entry: Entry, label: Tensor, steps: int) -> Tensor:
    """``[B, U]`` the gradient times the input, summed over each unit: exact for a linear model.

    Args:
        label: ``[B]``. steps: is not used.

    Source: Shrikumar et al. 2017, arXiv:1605.01713, section 3.
    """
    assert entry.values is not None
    return entry.by_unit(entry.values * gradient(entry, entry.values, label))


def integrated_gradients(entry: Entry, label: Tensor, steps: int) -> Tensor:
    """``[B, U]`` the input times the mean gradient on the straight line from the baseline, by Gauss and Legendre.

    Their sum is ``f(x) - f(baseline)``, but for the error of the quadrature.

    Args:
        label: ``[B]``. steps: points on the line, each of which costs a forward and a backward pass.

    Source: Sundararajan, Taly, Yan 2017, arXiv:1703.01365, section 3.
    """
    assert entry.values is not None
    points, weights = np.polynomial.legendre.leggauss(steps)
    total = torch.zeros_like(entry.values)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        total += float(weight) * gradient(entry, float(point) * entry.values, label)
    return entry.by_unit(entry.values * total)


def occlusion(entry: Entry, label: Tensor, steps: int) -> Tensor:
    """``[B, U]`` how much the logit falls where a unit is hidden: one pass for each unit.

    Args:
        label: ``[B]``. steps: is not used.

    Source: Zeiler, Fergus 2014, arXiv:1311.2901, section 4.2; Li, Monroe, Jurafsky 2016, arXiv:1612.08220.
    """
    with torch.no_grad():
        assert entry.values is not None
        whole = entry.logits(entry.values).gather(1, label[:, None])
        parts = []
        for unit in range(entry.real.shape[1]):
            one = torch.zeros_like(entry.real)
            one[:, unit] = True
            parts.append(whole - entry.logits(entry.hidden(one)).gather(1, label[:, None]))
        return torch.cat(parts, 1).where(entry.real, 0)


def largest(attribution: Tensor, real: Tensor, share: float) -> Tensor:
    """``[B, U]`` bool: the units of the largest attributions, this share of the real ones, at least one.

    Example:
        >>> largest(torch.tensor([[3.0, 1.0, 2.0, 9.0]]), torch.tensor([[True, True, True, False]]), 0.5).tolist()
        [[True, False, True, False]]
    """
    order = attribution.where(real, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    count = (real.sum(1) * share).round().clamp(min=1)
    return (rank < count[:, None]) & real


def faithfulness(entry: Entry, attribution: Tensor, label: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Comprehensiveness and sufficiency, ``[B]`` each: how much the probability of a class falls without the most
    important units, and with these alone.

    Args:
        attribution: ``[B, U]``. label: ``[B]``. share: of the units, in (0, 1].

    Source: DeYoung et al. 2020 (ERASER), arXiv:1911.03429, section 5.
    """
    top = largest(attribution, entry.real, share)
    with torch.no_grad():
        assert entry.values is not None
        outcome = entry.task.outcome

        def chance(values: Tensor) -> Tensor:
            return outcome.probabilities(entry.logits(values)).gather(1, label[:, None])[:, 0]

        whole = chance(entry.values)
        return whole - chance(entry.hidden(top)), whole - chance(entry.hidden(entry.real & ~top))


def rank_correlation(one: Tensor, other: Tensor, real: Tensor) -> Tensor:
    """``[B]`` Spearman's rank correlation of two attributions ``[B, U]`` over the real units; NaN where one is level.

    Example:
        >>> one, other = torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[0.1, 0.3, 0.2]])
        >>> rank_correlation(one, other, torch.ones(1, 3).bool())
        tensor([0.5000])
    """
    ranks = [_centred_ranks(some, real) for some in (one, other)]
    norms = [some.norm(dim=1) for some in ranks]
    return (ranks[0] * ranks[1]).sum(1) / (norms[0] * norms[1])


def _centred_ranks(values: Tensor, real: Tensor) -> Tensor:
    """``[B, U]`` ranks less their mean, equal values sharing one rank; 0 at padding."""
    pairs = real[:, None] & real[:, :, None]
    below = ((values[:, None] < values[:, :, None]) & pairs).sum(2)
    equal = ((values[:, None] == values[:, :, None]) & pairs).sum(2)
    ranks = (below + (equal - 1) / 2.0).float()
    mean = ranks.where(real, 0).sum(1, keepdim=True) / real.sum(1, keepdim=True)
    return (ranks - mean).where(real, 0)


METHODS = {
    "gradient_x_input": gradient_x_input, "integrated_gradients": integrated_gradients, "occlusion": occlusion,
}  # fmt: skip
