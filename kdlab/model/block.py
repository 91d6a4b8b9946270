"""A model cut into blocks from bottom to top, as its family cuts it."""

from __future__ import annotations

from torch import nn

from kdlab.block import Block, assign
from kdlab.model.family.find import family

__all__ = ["Block", "blocks"]


def blocks(model: nn.Module) -> list[Block]:
    """The blocks of ``model`` from bottom to top: ``embedding``, ``layer.0`` …, ``head``.

    Every parameter is in exactly one block.

    Raises:
        UserError: the model's family finds no list of layers in it, and it has no method ``blocks``.
    """
    return assign(model, family(model).blocks(model))
