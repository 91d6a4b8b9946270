"""Whether the right class is among the k likeliest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from kdlab.error import UserError
from kdlab.metric.classification import Labelled
from kdlab.value import Count


def among(probabilities: Tensor, target: Tensor, k: int) -> Tensor:
    """``[N]`` bool: whether fewer than ``k`` classes are likelier than the right one.

    Args:
        probabilities: ``[N, C]``. target: ``[N]``.

    Example:
        >>> among(torch.tensor([[0.5, 0.3, 0.2]] * 3), torch.tensor([0, 1, 2]), 2).tolist()
        [True, True, False]
    """
    right = probabilities.gather(1, target[:, None])
    return (probabilities > right).sum(1) < k


class TopK(Metric):
    """The share of rows for which :func:`among` holds; NaN before the first."""

    full_state_update = False
    higher_is_better = True
    share = True
    right: Tensor
    answers: Tensor

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.add_state("right", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("answers", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        self.right += among(probabilities, target, self.k).sum()
        self.answers += len(target)

    def compute(self) -> Tensor:
        return (self.right.double() / self.answers).float()


def top_k(k: Count, labels: Sequence[str], multi_label: bool = False) -> MetricCollection:
    """``top5_accuracy`` where ``k`` is 5; nothing where there are not more than ``k`` classes, of which it is always 1.

    Raises:
        UserError: rows have several labels.
    """
    if multi_label:
        raise UserError("metric=top_k needs one label a row: leave it out with datamodule.multi_label=true")
    metrics: dict[str, Metric | MetricCollection] = {f"top{k}_accuracy": TopK(k)} if len(labels) > k else {}
    return Labelled(metrics, compute_groups=False)
