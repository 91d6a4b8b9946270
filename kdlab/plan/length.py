"""The length of a run where its config leaves that to the data."""

from __future__ import annotations

import math

from kdlab.config.node import Node
from kdlab.datamodule.data import Data

STEPS = 250  # of the optimizer, which a run has at least if MOST epochs are enough for that
FEWEST, MOST = 3, 10  # epochs


def epochs(trainer: Node, data: Data) -> int | None:
    """``trainer.max_epochs``, or where it is null and there is no ``max_steps``, a number that fits the data.

    Args:
        trainer: the config's node.
        data: a datamodule after ``setup``.
    """
    if trainer.max_epochs is not None or trainer.get("max_steps", -1) not in (None, -1):
        return trainer.max_epochs
    return fitting(data.train_dataloader().steps)


def fitting(steps: int) -> int:
    """Epochs for this number of optimizer steps an epoch: three, and of few rows up to ten.

    Example:
        >>> [fitting(steps) for steps in (0, 13, 50, 100, 1250)]
        [10, 10, 5, 3, 3]
    """
    return min(MOST, max(FEWEST, math.ceil(STEPS / max(1, steps))))
