"""How far a row is from what a model learned from, and how well that separates two sets of rows.

All scores are higher for rows like those of the training.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 1e-6  # of the mean variance, added to each direction of the covariance
CHUNK = 512  # rows whose distances are in memory at a time


def max_probability(logits: Tensor) -> Tensor:
    """``[N]`` the probability of the chosen class, of logits ``[N, C]``.

    Source: Hendrycks, Gimpel 2017, arXiv:1610.02136, section 2.

    Example:
        >>> max_probability(torch.zeros(1, 4))
        tensor([0.2500])
    """
    return logits.softmax(1).max(1).values


def energy(logits: Tensor) -> Tensor:
    """``[N]`` the negative energy ``log sum exp`` of logits ``[N, C]``, at temperature 1.

    Source: Liu et al. 2020, arXiv:2010.03759, equation 3.

    Example:
        >>> energy(torch.zeros(1, 4))  # log 4
        tensor([1.3863])
    """
    return logits.logsumexp(1)


def mahalanobis(features: Tensor, known: Tensor, label: Tensor) -> Tensor:
    """``[N]`` minus the squared Mahalanobis distance to the nearest class mean, under one covariance of all classes.

    Args:
        features: ``[N, D]``. known: ``[M, D]``, of training rows. label: ``[M]``, of these.

    Source: Lee et al. 2018, arXiv:1807.03888, section 2.1.

    Example: one class around 0 with variance 1 in each direction:
        >>> known = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) * 2**0.5
        >>> round(float(mahalanobis(torch.tensor([[3.0, 4.0]]), known, torch.zeros(4).long())), 3)
        -25.0
    """
    known, features = known.double(), features.double()
    classes, place = label.unique(return_inverse=True)
    count = torch.bincount(place).double()[:, None]
    means = torch.zeros(len(classes), known.shape[1], dtype=known.dtype).index_add_(0, place, known) / count
    centred = known - means[place]
    covariance = centred.T @ centred / len(known)
    ridge = RIDGE * covariance.diagonal().mean().clamp(min=RIDGE)
    precision = torch.linalg.pinv(covariance + ridge * torch.eye(known.shape[1], dtype=known.dtype), hermitian=True)
    apart = features[:, None] - means
    return -torch.einsum("ncd,de,nce->nc", apart, precision, apart).min(1).values


def nearest(features: Tensor, known: Tensor, k: int) -> Tensor:
    """``[N]`` minus the distance to the k-th nearest training row, all features scaled to length 1.

    Args:
        features: ``[N, D]``. known: ``[M, D]``. k: at least 1; of fewer rows, the farthest.

    Source: Sun et al. 2022, arXiv:2204.06507, section 3.

    Example:
        >>> nearest(torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0]]), 2)
        tensor([-1.4142])
    """
    one, two = (torch.nn.functional.normalize(some, dim=1) for some in (features, known))
    k = min(k, len(known))
    parts = [torch.cdist(part, two).kthvalue(k, dim=1).values for part in one.split(CHUNK)]
    return -torch.cat(parts)


def auroc(inside: Tensor, outside: Tensor) -> float:
    """The probability that a row of the first set has a higher score than one of the second; equal ones count half.

    Example:
        >>> auroc(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])), auroc(torch.ones(3), torch.ones(2))
        (0.875, 0.5)
    """
    scores = torch.cat([inside, outside]).double()
    _, place, count = scores.unique(return_inverse=True, return_counts=True)
    rank = count.cumsum(0).double() - (count.double() - 1) / 2
    first = rank[place[: len(inside)]].sum() - len(inside) * (len(inside) + 1) / 2
    return float(first / (len(inside) * len(outside)))


def false_positive_rate(inside: Tensor, outside: Tensor, kept: float = 0.95) -> float:
    """The share of the second set that is taken for the first, where this share of the first is taken for it.

    Example:
        >>> false_positive_rate(torch.arange(100.0), torch.tensor([-1.0, 4.0, 5.0, 6.0]))
        0.5
    """
    limit = inside.sort(descending=True).values[max(1, -int(-kept * len(inside) // 1)) - 1]
    return float((outside >= limit).double().mean())
