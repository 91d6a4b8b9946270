"""Batches that a test writes itself."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kdlab.batch import Batch


def text(inputs: Mapping[str, Tensor], label: Tensor | None = None, **size: float) -> Batch:
    """A batch of texts: ids and mask ``[B, L]`` as keyword arguments of a model."""
    mask = inputs["attention_mask"]
    return Batch(torch.arange(len(mask)), dict(inputs), {} if label is None else {"label": label}, size, mask.bool())


def labels(label: Tensor, **size: float) -> Batch:
    """A batch of which only the labels are looked at."""
    return Batch(torch.arange(len(label)), {}, {"label": label}, size)
