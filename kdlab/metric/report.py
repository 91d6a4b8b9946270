"""Predictions in detail: every class, their mean, what is taken for what, and the calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdlab.metric.classification import calibration, calibration_error, confidence, count, f1, f1_macro, labelled
from kdlab.metric.confusion import confused

MISTAKES = 100  # of the commonest confusions that are listed


def report(probabilities: Tensor, target: Tensor, labels: Sequence[str]) -> dict[str, Any]:
    """The details as plain numbers and lists, ready for json.

    Args:
        probabilities: ``[N, C]``.
        target: ``[N]``, or multi-label ``[N, C]`` of 0 and 1; rows of -1 are left out.

    Returns:
        ``rows``; ``accuracy``, ``f1_macro``, ``ece``: as in training, see
        :func:`kdlab.metric.classification.classification`;
        ``class``: by label ``precision``, ``recall``, ``f1``, ``support``;
        ``macro``: the mean of the first three over the classes that occur or are predicted;
        ``confusion``: see :func:`kdlab.metric.confusion.confused`; not of more than 100 classes;
        ``mistakes``: not multi-label, see :func:`mistakes`.
        What would divide by 0 is 0.

    Raises:
        ValueError: no row has a label.

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
        >>> report(probabilities, torch.tensor([0, 1]), ["no", "yes"])["accuracy"]
        0.5
    """
    probabilities, target = labelled(probabilities.detach().cpu(), target.detach().cpu())
    if len(target) == 0:
        raise ValueError("a report needs at least one labelled row")
    counts = count(probabilities, target)
    sure, right = confidence(probabilities, target)
    scores = {
        "precision": counts.hit.double() / counts.predicted.clamp(min=1),
        "recall": counts.hit.double() / counts.true.clamp(min=1),
        "f1": f1(counts),
    }
    classes = {
        label: {name: float(value[i]) for name, value in scores.items()} | {"support": int(counts.true[i])}
        for i, label in enumerate(labels)
    }
    details: dict[str, Any] = {
        "rows": len(target),
        "accuracy": float(right.double().mean()),
        "f1_macro": float(f1_macro(counts)),
        "ece": float(calibration_error(calibration(sure, right))),
        "class": classes,
        "macro": {name: float(value[counts.present].mean()) for name, value in scores.items()},
    }
    table = confused(probabilities, target)
    if table.ndim > 1:
        details["confusion"] = table.tolist()
    if target.ndim == 1:
        details["mistakes"] = mistakes(target, probabilities.argmax(-1), labels)
    return details


def mistakes(target: Tensor, predicted: Tensor, labels: Sequence[str]) -> list[list[Any]]:
    """``[true label, predicted label, rows]`` of the 100 commonest confusions, the commonest first; linear in the rows.

    Args:
        target, predicted: class numbers ``[N]``.

    Example:
        >>> mistakes(torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 1]), ["a", "b"])
        [['a', 'b', 2], ['b', 'a', 1]]
    """
    wrong = target != predicted
    pairs, rows = torch.unique(target[wrong] * len(labels) + predicted[wrong], return_counts=True)
    order = rows.argsort(descending=True, stable=True)[:MISTAKES]
    return [
        [labels[pair // len(labels)], labels[pair % len(labels)], number]
        for pair, number in zip(pairs[order].tolist(), rows[order].tolist(), strict=True)
    ]
