"""How good predictions are: accuracy, macro F1 and expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryCalibrationError,
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassF1Score,
    MultilabelAccuracy,
    MultilabelF1Score,
)

BINS = 15


class Labelled(MetricCollection):
    """Metrics over the rows that have a label; the label of the others is -1.

    ``update`` takes probabilities ``[B, C]`` and targets ``[B]``, or multi-label ``[B, C]`` of any number type.
    """

    def update(self, probabilities: Tensor, target: Tensor) -> None:  # type: ignore[override]
        probabilities, target = labelled(probabilities, target)
        if len(target):
            super().update(probabilities, target)

    def forward(self, probabilities: Tensor, target: Tensor) -> dict[str, Tensor]:
        probabilities, target = labelled(probabilities, target)
        return super().forward(probabilities, target) if len(target) else {}


def labelled(probabilities: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that have a label, in float32 and int64."""
    known = target >= 0 if target.ndim == 1 else (target >= 0).all(-1)
    return probabilities[known].float(), target[known].long()


def classification(labels: Sequence[str], multi_label: bool = False) -> MetricCollection:
    """``accuracy``, ``f1_macro`` and ``ece`` (L1, 15 bins of confidence).

    Multi-label: accuracy is the share of right yes-or-no decisions at 1/2, and ece takes every decision as a row.
    Classes that neither occur nor are predicted do not count in f1_macro.
    """
    count = len(labels)
    if multi_label:
        return Labelled(
            {
                "accuracy": MultilabelAccuracy(count, average="micro"),
                "f1_macro": MultilabelF1Score(count, average="macro"),
                "ece": BinaryCalibrationError(n_bins=BINS, norm="l1"),
            },
            compute_groups=False,
        )
    return Labelled(
        {
            "accuracy": MulticlassAccuracy(count, average="micro"),
            "f1_macro": MulticlassF1Score(count, average="macro"),
            "ece": MulticlassCalibrationError(count, n_bins=BINS, norm="l1"),
        },
        compute_groups=False,
    )
