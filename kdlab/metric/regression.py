"""How far predicted numbers are from the true ones: MAE, RMSE, R2 and Spearman's rank correlation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection, R2Score, SpearmanCorrCoef

from kdlab.outcome import Outcome, Real

FEWEST = 2  # rows of which a correlation can be computed
NAMES = ("mae", "rmse", "r2", "spearman")


class Numbers(MetricCollection):
    """Metrics of torchmetrics over the rows that have a number, computed in float64; the label of the others is nan.

    ``update`` takes predictions ``[B]`` and targets ``[B]``.

    Attributes:
        primary: the name of the one that a run keeps its best weights by.
        outcome: the meaning of the logits of tasks that it fits.

    Example:
        >>> metrics = regression(["number"])
        >>> metrics.update(torch.tensor([1.0, 2.0, 4.0, 9.0]), torch.tensor([1.0, 2.0, 3.0, torch.nan]))
        >>> {name: round(float(value), 4) for name, value in metrics.compute().items()}
        {'mae': 0.3333, 'r2': 0.5, 'rmse': 0.5774, 'spearman': 1.0}
    """

    primary: str | None = None
    outcome: type[Outcome] = Real

    def __init__(self, metrics: dict[str, Metric | MetricCollection]) -> None:
        super().__init__(metrics, compute_groups=False)
        self.set_dtype(torch.float64)
        self.rows = 0

    def update(self, predicted: Tensor, target: Tensor) -> None:  # type: ignore[override]
        known = target.isfinite()
        self.rows += int(known.sum())
        if known.any():
            super().update(predicted[known].double(), target[known].double())

    def compute(self) -> dict[str, Tensor]:
        if self.rows < FEWEST:
            return {name: torch.tensor(torch.nan) for name in NAMES}
        return super().compute()

    def reset(self) -> None:
        super().reset()
        self.rows = 0


def regression(labels: Sequence[str]) -> MetricCollection:
    """``mae`` and ``rmse`` in the unit of the numbers, ``r2`` (the share of their variance that is explained; 0 for
    always predicting their mean), and ``spearman``, the correlation of the ranks; all nan of fewer than two rows."""
    with warnings.catch_warnings():  # that Spearman's keeps all numbers, which are few beside the texts
        warnings.simplefilter("ignore", UserWarning)
        kinds = (MeanAbsoluteError(), MeanSquaredError(squared=False), R2Score(), SpearmanCorrCoef())
    found = Numbers(dict(zip(NAMES, kinds, strict=True)))
    found.primary = "rmse"
    return found
