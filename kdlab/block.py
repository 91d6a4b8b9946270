"""Blocks of a model from bottom to top: the unit of freezing, of learning rates by depth, and of layer copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn


@dataclass
class Block:
    """A part of a model between two depths.

    Attributes:
        name: ``embedding``, ``layer.0``, …, ``head``.
        modules: the modules that it consists of.
        parameters: those that belong to no lower block, see :func:`assign`.
        learnable: those of the parameters that may learn; all, until a freezing policy selects some.
        still: modules that stay in eval mode while the rest of the block learns.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
        >>> low, head = assign(model, [Block("layer.0", [model[0]]), Block("head", [model[1]])])
        >>> [tuple(parameter.shape) for parameter in low.parameters]
        [(2, 3), (2,)]
    """

    name: str
    modules: list[nn.Module]
    parameters: list[nn.Parameter] = field(default_factory=list)
    learnable: list[nn.Parameter] = field(default_factory=list)
    still: list[nn.Module] = field(default_factory=list)


def assign(model: nn.Module, blocks: list[Block]) -> list[Block]:
    """Give each parameter of ``model`` to the lowest block that holds it, so that it is in exactly one block.

    A weight that two blocks share belongs to the lower one; a parameter outside all blocks belongs to the lowest.
    """
    taken: set[int] = set()
    for block in blocks:
        block.parameters = []
        for parameter in _parameters(block.modules):
            if id(parameter) not in taken:
                taken.add(id(parameter))
                block.parameters.append(parameter)
    blocks[0].parameters += [parameter for parameter in model.parameters() if id(parameter) not in taken]
    for block in blocks:
        block.learnable, block.still = list(block.parameters), []
    return blocks


def _parameters(modules: list[nn.Module]) -> Iterator[nn.Parameter]:
    for module in modules:
        yield from module.parameters()
