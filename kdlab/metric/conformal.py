"""Sets of classes that hold the right one with a stated probability, whatever the model is.

Rows that were calibrated on and rows that are measured must be exchangeable; then the share of sets that hold the right
class is in ``[1 - a, 1 - a + 1 / (n + 1)]`` on average, with ``n`` rows to calibrate on and no two equal scores.

Source: Angelopoulos, Bates 2021, arXiv:2107.07511, section 1 and theorem D.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def lac(probabilities: Tensor, draw: Tensor) -> Tensor:
    """``[N, S]`` the score of every class, ``1 - p``: the smallest sets.

    Args:
        probabilities: ``[N, S]``. draw: is not used.

    Source: Sadinle, Lei, Wasserman 2019, arXiv:1609.00451.

    Example:
        >>> lac(torch.tensor([[0.75, 0.25]]), torch.zeros(1))
        tensor([[0.2500, 0.7500]])
    """
    return 1 - probabilities


def aps(probabilities: Tensor, draw: Tensor) -> Tensor:
    """``[N, S]`` the score of every class: the probability of all likelier ones, and a drawn part of its own.

    Sets are larger than those of :func:`lac`, and nearer to the coverage for hard and easy rows alike.

    Args:
        probabilities: ``[N, S]``. draw: ``[N]``, uniform in [0, 1).

    Source: Romano, Sesia, Candès 2020, arXiv:2006.02544, section 2.

    Example:
        >>> aps(torch.tensor([[0.25, 0.75]]), torch.tensor([0.5]))
        tensor([[0.8750, 0.3750]])
    """
    ordered, order = probabilities.sort(dim=1, descending=True, stable=True)
    before = ordered.cumsum(1) - ordered
    return torch.zeros_like(probabilities).scatter(1, order, before + draw[:, None].to(ordered) * ordered)


def threshold(score: Tensor, alpha: float) -> float:
    """The largest score of a class in a set: the ``ceil((n + 1) (1 - a))``-th smallest; infinite where n is less.

    Args:
        score: ``[n]``, of the right class of each row that is calibrated on.
        alpha: the share of sets that may miss it, in (0, 1).

    Example:
        >>> threshold(torch.arange(9.0), 0.1), threshold(torch.arange(8.0), 0.1)
        (8.0, inf)
    """
    rank = math.ceil(round((len(score) + 1) * (1 - alpha), 9))
    return float(score.sort().values[rank - 1]) if rank <= len(score) else math.inf


def covered(score: Tensor, target: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Whether each set holds the right class, and how many classes it holds: ``[N]`` bool, ``[N]`` int64.

    Args:
        score: ``[N, S]``. target: ``[N]``. limit: see :func:`threshold`.

    Example:
        >>> hit, size = covered(torch.tensor([[0.1, 0.9]]), torch.tensor([1]), 0.5)
        >>> hit.tolist(), size.tolist()
        ([False], [1])
    """
    inside = score <= limit
    return inside.gather(1, target[:, None])[:, 0], inside.sum(1)


SCORES = {"lac": lac, "aps": aps}
