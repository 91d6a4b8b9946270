"""How good predictions are: accuracy, macro F1 and expected calibration error.

The functions count; the metrics of a training and the report of ``kdlab evaluate`` are made of the same counts. Memory
is linear in the rows and in the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from kdlab.outcome import Classes, Outcome

BINS = 15


@dataclass(frozen=True)
class Counts:
    """How often each class is right, occurs, and is predicted: ``[C]`` each, whole numbers."""

    hit: Tensor
    true: Tensor
    predicted: Tensor

    @property
    def present(self) -> Tensor:
        """``[C]`` whether a class occurs or is predicted; the others have no F1."""
        return (self.true + self.predicted) > 0


def decide(probabilities: Tensor) -> Tensor:
    """Multi-label decisions at 1/2: 0 or 1, of the same shape.

    Example:
        >>> decide(torch.tensor([[0.5, 0.6]])).tolist()
        [[0, 1]]
    """
    return (probabilities > 0.5).long()


def count(probabilities: Tensor, target: Tensor) -> Counts:
    """Right, true and predicted rows of each class.

    Args:
        probabilities: ``[N, C]``.
        target: class numbers ``[N]``, or multi-label ``[N, C]`` of 0 and 1.

    Example:
        >>> count(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1])).hit.tolist()
        [1, 0]
    """
    if target.ndim > 1:
        decided = decide(probabilities)
        return Counts((decided * target).sum(0), target.sum(0), decided.sum(0))
    classes, predicted = probabilities.shape[-1], probabilities.argmax(-1)
    rows = (target[predicted == target], target, predicted)
    return Counts(*[torch.bincount(some, minlength=classes) for some in rows])


def f1(counts: Counts) -> Tensor:
    """``[C]`` float64 in [0, 1]: ``2 hit / (true + predicted)``, 0 for a class that neither occurs nor is predicted.

    Example:
        >>> f1(Counts(torch.tensor([1, 0]), torch.tensor([1, 0]), torch.tensor([2, 0]))).tolist()
        [0.6666666666666666, 0.0]
    """
    return 2 * counts.hit.double() / (counts.true + counts.predicted).clamp(min=1)


def f1_macro(counts: Counts) -> Tensor:
    """The mean of :func:`f1` over the classes that occur or are predicted; NaN where none does.

    It is ``f1_score(y, p, average="macro")`` of scikit-learn over the labels that are in ``y`` or ``p``, which is its
    default for one label a row. With several labels a row scikit-learn takes all labels instead, so that a rare label
    that a small split lacks counts as a failure.
    """
    return f1(counts)[counts.present].mean()


def confidence(probabilities: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """How sure each answer is, and whether it is right: ``[N]`` each.

    An answer is the likeliest class of a row; multi-label, every yes or no is an answer of its own, ``max(p, 1 - p)``
    sure, and N is rows times classes.

    Example:
        >>> sure, right = confidence(torch.tensor([[0.25, 0.75]]), torch.tensor([[1, 1]]))
        >>> sure.tolist(), right.tolist()
        ([0.75, 0.75], [False, True])
    """
    if target.ndim > 1:
        right = decide(probabilities) == target
        return torch.maximum(probabilities, 1 - probabilities).flatten(), right.flatten()
    sure, predicted = probabilities.max(-1)
    return sure, predicted == target


def calibration(sure: Tensor, right: Tensor, bins: int = BINS) -> Tensor:
    """``[3, bins]`` float64: answers, right answers and summed confidence in bins of equal width.

    Bin i is [i / bins, (i + 1) / bins); the last one holds 1 as well.

    Example:
        >>> calibration(torch.tensor([0.9, 0.6]), torch.tensor([True, False]), bins=2).tolist()
        [[0.0, 2.0], [0.0, 1.0], [0.0, 1.5]]
    """
    inner = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=sure.device)[1:-1]
    place = torch.bucketize(sure.double(), inner, right=True)
    values = torch.stack([torch.ones_like(sure, dtype=torch.float64), right.double(), sure.double()])
    return torch.zeros(3, bins, dtype=torch.float64, device=sure.device).index_add_(1, place, values)


def calibration_error(binned: Tensor) -> Tensor:
    """The expected calibration error of :func:`calibration`'s counts, in [0, 1]; NaN where there is no answer.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3 (L1).

    Example:
        >>> sure, right = torch.tensor([0.95, 1.0]), torch.tensor([True, False])
        >>> round(float(calibration_error(calibration(sure, right))), 6)
        0.475
    """
    answers, right, sure = binned
    return (right - sure).abs().sum() / answers.sum()


class Accuracy(Metric):
    """The share of right answers, see :func:`confidence`; NaN before the first."""

    full_state_update = False
    higher_is_better = True
    share = True
    right: Tensor
    answers: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("right", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("answers", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        _, right = confidence(probabilities, target)
        self.right += right.sum()
        self.answers += right.numel()

    def compute(self) -> Tensor:
        return (self.right.double() / self.answers).float()


class F1Macro(Metric):
    """:func:`f1_macro` over all rows; NaN before the first."""

    full_state_update = False
    higher_is_better = True
    hit: Tensor
    true: Tensor
    predicted: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        for name in ("hit", "true", "predicted"):
            self.add_state(name, torch.zeros(classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        found = count(probabilities, target)
        self.hit += found.hit
        self.true += found.true
        self.predicted += found.predicted

    def compute(self) -> Tensor:
        return f1_macro(Counts(self.hit, self.true, self.predicted)).float()


class CalibrationError(Metric):
    """:func:`calibration_error` over all answers; NaN before the first."""

    full_state_update = False
    higher_is_better = False
    binned: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("binned", torch.zeros(3, BINS, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        self.binned += calibration(*confidence(probabilities, target))

    def compute(self) -> Tensor:
        return calibration_error(self.binned).float()


class Labelled(MetricCollection):
    """Metrics over the rows that have a label; the label of the others is -1.

    ``update`` takes probabilities ``[B, C]`` and targets ``[B]``, or multi-label ``[B, C]`` of any number type.

    Attributes:
        primary: the name of the one that a run keeps its best weights by; None: the first by name.
        outcome: the meaning of the logits of tasks that it fits.
    """

    primary: str | None = None
    outcome: type[Outcome] = Classes

    def update(self, probabilities: Tensor, target: Tensor) -> None:  # type: ignore[override]
        probabilities, target = labelled(probabilities, target)
        if len(target):
            super().update(probabilities, target)

    def forward(self, probabilities: Tensor, target: Tensor) -> dict[str, Tensor]:
        probabilities, target = labelled(probabilities, target)
        return super().forward(probabilities, target) if len(target) else {}


def labelled(probabilities: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that have a label, in float32 and int64.

    Example:
        >>> labelled(torch.tensor([[0.75, 0.25], [0.5, 0.5]]), torch.tensor([0, -1]))
        (tensor([[0.7500, 0.2500]]), tensor([0]))
    """
    known = target >= 0 if target.ndim == 1 else (target >= 0).all(-1)
    return probabilities[known].float(), target[known].long()


def classification(labels: Sequence[str]) -> MetricCollection:
    """``accuracy``, ``f1_macro`` and ``ece`` (15 bins of confidence).

    Multi-label: accuracy and ece take every yes or no at 1/2 as an answer of its own.
    Classes that neither occur nor are predicted do not count in f1_macro, see :func:`f1_macro`.
    """
    metrics: dict[str, Metric | MetricCollection] = {
        "accuracy": Accuracy(),
        "f1_macro": F1Macro(len(labels)),
        "ece": CalibrationError(),
    }
    found = Labelled(metrics, compute_groups=False)
    found.primary = "accuracy"
    return found
