"""What a model reaches that reads nothing: it always gives the commonest answer of the training rows."""

from __future__ import annotations

import numpy as np

OF = "accuracy"  # what it stands beside
NAME = "majority"
HIGHER_IS_BETTER = {NAME: None}  # a fact about the data, not about the run


def majority(train: np.ndarray, rows: np.ndarray) -> float | None:
    """Accuracy in [0, 1] on ``rows`` of the commonest class of ``train``; of equally common ones, the first.

    Args:
        train, rows: labels as numbers: ``[N]`` class ids, or multi-label ``[N, C]`` of 0 and 1, where each label's
            commoner decision is given and the accuracy is the share of right decisions. Rows of -1 have no label.

    Returns:
        None where either has no labelled row.

    Example:
        >>> majority(np.array([0, 1, 1, -1]), np.array([1, 1, 0, 1]))
        0.75
    """
    train, rows = _labelled(train), _labelled(rows)
    if not len(train) or not len(rows):
        return None
    answer = train.mean(0) > 0.5 if train.ndim > 1 else np.bincount(train.astype(int)).argmax()
    return float((rows == answer).mean())


def _labelled(codes: np.ndarray) -> np.ndarray:
    return codes[codes >= 0] if codes.ndim == 1 else codes[(codes >= 0).all(1)]
