"""Predictions in detail: every class, their mean, the confusion matrix and the calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from kdlab.metric.classification import BINS, labelled


def report(probabilities: Tensor, target: Tensor, labels: Sequence[str]) -> dict[str, Any]:
    """The details as plain numbers and lists, ready for json.

    Args:
        probabilities: ``[N, C]``.
        target: ``[N]``, or multi-label ``[N, C]`` of 0 and 1; rows of -1 are left out.

    Returns:
        ``rows``, ``accuracy``, ``ece`` (as in :func:`kdlab.metric.classification.classification`), ``class``: by label
        ``precision``, ``recall``, ``f1``, ``support``; ``macro``: the mean of the first three over the classes that
        occur or
        are predicted; ``confusion``: ``[C][C]`` rows by true and predicted class, or multi-label ``[C][2][2]``. What
        would
        divide by 0 is 0.

    Raises:
        ValueError: no row has a label.
    """
    probabilities, target = labelled(probabilities.detach().cpu(), target.detach().cpu())
    if len(target) == 0:
        raise ValueError("a report needs at least one labelled row")
    count = len(labels)
    if target.ndim == 1:
        predicted = probabilities.argmax(-1)
        confusion = torch.bincount(target * count + predicted, minlength=count**2).view(count, count)
        hit = confusion.diagonal()
        true, guessed = confusion.sum(1), confusion.sum(0)
        right = predicted == target
        ece = multiclass_calibration_error(probabilities, target, count, n_bins=BINS, norm="l1")
    else:
        decided = (probabilities > 0.5).long()
        hit, true, guessed = (decided * target).sum(0), target.sum(0), decided.sum(0)
        missed, alarmed = true - hit, guessed - hit
        confusion = torch.stack([len(target) - hit - missed - alarmed, alarmed, missed, hit], -1).view(count, 2, 2)
        right = decided == target
        ece = binary_calibration_error(probabilities, target, n_bins=BINS, norm="l1")
    scores = {
        "precision": hit / guessed.clamp(min=1),
        "recall": hit / true.clamp(min=1),
        "f1": 2 * hit / (true + guessed).clamp(min=1),
    }
    present = (true + guessed) > 0
    classes = {
        label: {name: float(value[i]) for name, value in scores.items()} | {"support": int(true[i])}
        for i, label in enumerate(labels)
    }
    return {
        "rows": len(target),
        "accuracy": float(right.double().mean()),
        "ece": float(ece),
        "class": classes,
        "macro": {name: float(value[present].mean()) for name, value in scores.items()},
        "confusion": confusion.tolist(),
    }
