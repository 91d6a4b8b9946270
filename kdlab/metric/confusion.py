"""What was predicted of which class: the counts behind results per class."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from kdlab.metric.classification import Labelled, count
from kdlab.outcome import Bernoulli, Outcome

MOST = 100  # classes whose confusion is counted: its square


def confused(probabilities: Tensor, target: Tensor) -> Tensor:
    """``[C, C]`` rows by (class, predicted class); of more than 100 classes ``[C]`` rows by class.

    Args:
        probabilities: ``[N, C]``.
        target: class numbers ``[N]``, or multi-label ``[N, C]`` of 0 and 1, which give ``[C, 2, 2]``: rows by (is it,
            is it predicted).

    Example:
        >>> confused(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1])).tolist()
        [[1, 0], [1, 0]]
    """
    classes = probabilities.shape[-1]
    if target.ndim > 1:
        found = count(probabilities, target)
        missed, alarmed = found.true - found.hit, found.predicted - found.hit
        neither = len(target) - found.hit - missed - alarmed
        return torch.stack([neither, alarmed, missed, found.hit], -1).view(classes, 2, 2)
    if classes > MOST:
        return torch.bincount(target, minlength=classes)
    pairs = target * classes + probabilities.argmax(-1)
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


class Confusion(Metric):
    """:func:`confused` over all rows."""

    full_state_update = False
    counts: Tensor

    def __init__(self, classes: int, several: bool = False) -> None:
        super().__init__()
        square = (classes, 2, 2) if several else (classes, classes) if classes <= MOST else (classes,)
        self.add_state("counts", torch.zeros(square, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        self.counts += confused(probabilities, target)

    def compute(self) -> Tensor:
        return self.counts


def confusion(outcome: Outcome) -> MetricCollection:
    """``confusion``: see :func:`confused`."""
    return Labelled({"confusion": Confusion(len(outcome.names), isinstance(outcome, Bernoulli))}, compute_groups=False)


def row_count(confusion: Tensor) -> int:
    """How many rows were counted.

    Example:
        >>> row_count(torch.tensor([[3, 1], [2, 0]]))
        6
    """
    return int(confusion[0].sum() if confusion.ndim == 3 else confusion.sum())
