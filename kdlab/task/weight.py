"""Weights of the classes in the supervised loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdlab.error import UserError


def class_weight(weights: str | Sequence[float] | None, labels: Sequence[str], counts: Sequence[int]) -> Tensor | None:
    """``[C]`` float64 with mean 1 over the labelled training rows; None where every row counts the same.

    Args:
        weights: None, ``"balanced"`` (inverse to ``counts``; a class without rows gets the largest weight
            of the others), or one number a label.
        counts: labelled training rows of each class.

    Raises:
        UserError: an unknown word, a wrong number of weights, or a weight that is not above 0.

    Example:
        >>> class_weight("balanced", ["a", "b"], [1, 3])  # 4 / (2 * 1) and 4 / (2 * 3)
        tensor([2.0000, 0.6667], dtype=torch.float64)
    """
    if weights is None:
        return None
    count = torch.tensor(counts, dtype=torch.float64)
    if isinstance(weights, str):
        if weights != "balanced":
            raise UserError(
                f"task.class_weights is '{weights}', but must be null, balanced, or a list with one weight a "
                "label: choose one."
            )
        value = 1 / count.clamp(min=1)
        value = value.where(count > 0, value.where(count > 0, 0).max())
    else:
        value = torch.tensor([float(w) for w in weights], dtype=torch.float64)
        if len(value) != len(labels):
            raise UserError(
                f"task.class_weights has {len(value)} weights, but the data has {len(labels)} labels "
                f"({', '.join(labels)}): "
                "give one for each, in this order."
            )
        if not bool(((value > 0) & value.isfinite()).all()):
            raise UserError(
                f"task.class_weights is {value.tolist()}, but every weight must be above 0: change the others."
            )
    if count.sum() == 0:
        return torch.ones_like(value) if isinstance(weights, str) else value
    return value * count.sum() / (value * count).sum()
