"""Few labels: the training rows that keep a label."""

from __future__ import annotations

import numpy as np

from kdlab.datamodule import split
from kdlab.datamodule.target import Target
from kdlab.error import UserError


def limited(
    target: Target, train: np.ndarray, order: np.ndarray, per_class: int | None, budget: int | None, selects: bool
) -> Target:
    """The answers, without those of the training rows beyond a number of labels.

    Args:
        train: the training rows.
        order: ``[N]``; the rows of least order keep their labels.
        per_class, budget: number of labels of each class, or in all; both None: all.
        selects: whether a score chooses the rows.

    Raises:
        UserError: there is nothing to choose from, fewer labels than asked, or several labels a row.

    Example:
        >>> from kdlab.datamodule.target import Labels
        >>> target = Labels(("no", "yes"), np.array([0, 1, 1, 0]))
        >>> limited(target, np.arange(4), np.array([3, 2, 1, 0]), 1, None, False).codes.tolist()
        [-1, -1, 1, 0]
    """
    if per_class is None and budget is None:
        if selects:
            raise UserError("datamodule.select needs a number of labels: set datamodule.budget or per_class")
        return target
    if target.several:
        which = "budget" if per_class is None else "per_class"
        raise UserError(f"datamodule.{which} needs one label a row: use train_rows with multi_label=true")
    if per_class is not None:
        kept = split.few(train, target.codes, per_class, order, target.names)
    else:
        kept = split.afford(train[target.codes[train] >= 0], budget, order)
    return target.hidden(np.setdiff1d(train, kept))
