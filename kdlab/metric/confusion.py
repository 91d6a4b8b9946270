"""What was predicted of which class: the counts behind results per class."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix, MultilabelConfusionMatrix

from kdlab.metric.classification import Labelled

HIGHER_IS_BETTER: dict[str, bool | None] = {"test/rows": None}


def confusion(labels: Sequence[str], multi_label: bool = False) -> MetricCollection:
    """``confusion``: counts ``[C, C]`` of (class, predicted class); multi-label ``[C, 2, 2]``."""
    count = len(labels)
    counted = MultilabelConfusionMatrix(count) if multi_label else MulticlassConfusionMatrix(count)
    return Labelled({"confusion": counted})


def row_count(confusion: Tensor) -> int:
    """How many rows were counted.

    Example:
        >>> row_count(torch.tensor([[3, 1], [2, 0]]))
        6
    """
    return int(confusion.sum() if confusion.ndim == 2 else confusion[0].sum())
