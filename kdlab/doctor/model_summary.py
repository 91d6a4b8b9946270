"""A model's shape: its blocks and taps, read from a model without weights where that can be built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from kdlab.error import UserError
from kdlab.freeze.apply import select, trainable_table
from kdlab.freeze.base import Freeze
from kdlab.model.block import blocks
from kdlab.model.tap import available


@dataclass(frozen=True)
class ModelSummary:
    """What is seen of a model before it has weights.

    Attributes:
        name: its class.
        blocks: ``(name, parameters)`` from the bottom.
        taps: the named places that terms can read.
        vocabulary: rows of its word embeddings; 0 where it has none.
    """

    name: str
    blocks: list[tuple[str, int]]
    taps: list[str]
    vocabulary: int

    @property
    def parameters(self) -> int:
        return sum(count for _, count in self.blocks)


def model_summary(model: nn.Module) -> ModelSummary:
    cut = [(block.name, sum(one.numel() for one in block.parameters)) for block in blocks(model)]
    table = getattr(model, "get_input_embeddings", lambda: None)()
    rows = int(table.weight.shape[0]) if isinstance(table, nn.Embedding) else 0
    return ModelSummary(type(model).__name__, cut, available(model), rows)


def weightless(build: Callable[[], nn.Module], otherwise: Callable[[], nn.Module]) -> nn.Module:
    """A model on the meta device, which takes no memory, or, where it cannot be built there, a real one.

    Args:
        build: makes the model; asked first, and asked for no pretrained weights.
        otherwise: makes it as configured.

    Raises:
        UserError: what ``otherwise`` says.
    """
    try:
        with torch.device("meta"):
            return build()
    except UserError:
        raise
    except Exception:  # a factory that reads or copies values: anything can happen
        return otherwise()


def trainable(policy: Freeze, model: nn.Module) -> tuple[int, int]:
    """How many parameters learn at the start and at the end of a run."""
    cut = select(policy, model, blocks(model))
    start, end = (sum(row["trainable"] for row in trainable_table(policy, cut, progress)) for progress in (0.0, 1.0))
    return start, end
