"""What a freezing policy means for parameters, modes and the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdlab.error import UserError
from kdlab.freeze.base import Freeze
from kdlab.model.block import Block

MOMENTS = 200  # progress is looked at in this many steps to see what ever learns


def apply(policy: Freeze, model_blocks: Sequence[Block], progress: float) -> None:
    """Freeze and unfreeze for this moment; call it before every training batch.

    A frozen block has no gradients and is in eval mode as a whole: dropout is off and running statistics stand still,
    whoever called ``model.train()`` before. A block that learns is put into train mode unless it is already: a module
    inside it that was put into eval mode on purpose stays there.
    """
    for block, scale in zip(model_blocks, policy.scales(len(model_blocks), progress), strict=True):
        learns = scale > 0
        for parameter in block.parameters:
            if parameter.requires_grad != learns:
                parameter.requires_grad_(learns)
                parameter.grad = None
        for module in block.modules:
            if learns and not module.training:
                module.train()
            elif not learns and any(part.training for part in module.modules()):
                module.eval()


def parameter_groups(
    policy: Freeze, model_blocks: Sequence[Block], lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for the optimizer, with only the parameters that learn at some time.

    Neighbouring blocks with the same learning rate share a group, named after the first and last block. Biases and
    norms (fewer than 2 dimensions) are in a group of their own, ``…/no_decay``, without weight decay.

    Args:
        lr: learning rate; a group's is this times its blocks' scale at progress 1.

    Returns:
        ``[{"name", "params", "lr", "weight_decay"}]``.

    Raises:
        UserError: nothing would ever learn.
    """
    runs: list[tuple[float, list[Block]]] = []
    for block, scale in zip(model_blocks, highest(policy, len(model_blocks)), strict=True):
        if scale and runs and runs[-1][0] == scale:
            runs[-1][1].append(block)
        else:
            runs.append((scale, [block]))
    groups: list[dict[str, Any]] = []
    for scale, members in runs:
        parameters = [parameter for block in members for parameter in block.parameters]
        name = members[0].name if len(members) == 1 else f"{members[0].name}..{members[-1].name}"
        for suffix, decay, params in (
            ("", weight_decay, [parameter for parameter in parameters if parameter.ndim >= 2]),
            ("/no_decay", 0.0, [parameter for parameter in parameters if parameter.ndim < 2]),
        ):
            if scale and params:
                groups.append({"name": name + suffix, "params": params, "lr": lr * scale, "weight_decay": decay})
    if not groups:
        raise UserError(
            "The freezing policy leaves nothing of this model to learn: choose another, such as freeze=none."
        )
    return groups


def trainable_table(policy: Freeze, model_blocks: Sequence[Block], progress: float) -> list[dict[str, Any]]:
    """A row a block, from the bottom: ``{"block", "parameters", "trainable", "lr_scale"}`` at ``progress``."""
    return [
        {
            "block": block.name,
            "parameters": (count := sum(parameter.numel() for parameter in block.parameters)),
            "trainable": count if scale > 0 else 0,
            "lr_scale": scale,
        }
        for block, scale in zip(model_blocks, policy.scales(len(model_blocks), progress), strict=True)
    ]


def prepare(policy: Freeze, model_blocks: Sequence[Block]) -> None:
    """Let gradients reach what learns at some time and nothing else: what a distributed wrapper is to count on."""
    for block, scale in zip(model_blocks, highest(policy, len(model_blocks)), strict=True):
        for parameter in block.parameters:
            parameter.requires_grad_(scale > 0)


def changes(policy: Freeze, blocks: int) -> bool:
    """Whether a block learns at one time and is frozen at another."""
    over_time = [policy.scales(blocks, moment / MOMENTS) for moment in range(MOMENTS + 1)]
    return any(min(column) == 0 < max(column) for column in zip(*over_time, strict=True))


def highest(policy: Freeze, blocks: int) -> list[float]:
    """Each block's scale at progress 1, or, where that is 0, its largest at any time."""
    over_time = [policy.scales(blocks, moment / MOMENTS) for moment in range(MOMENTS + 1)]
    return [last or max(column) for last, column in zip(over_time[-1], zip(*over_time, strict=True), strict=True)]
