"""Applies a freezing policy to parameters, to modes and to the groups of the optimizer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from torch import nn

from kdlab.block import Block
from kdlab.error import UserError
from kdlab.freeze.base import Freeze

MOMENTS = 200  # values of progress at which a policy is evaluated to find which blocks ever learn


def select(policy: Freeze, model: nn.Module, cut: list[Block]) -> list[Block]:
    """The blocks of a model, each with the parameters that may learn: those that the policy chooses of those that
    require gradients when training begins.

    Modules none of whose parameters the policy chooses are in eval mode: no dropout, no new statistics.

    Args:
        policy: the freezing policy.
        model: the whole model.
        cut: its blocks from bottom to top, which are changed in place.
    """
    owner = {
        id(parameter): (module, name)
        for module in reversed(list(model.modules()))
        for name, parameter in module.named_parameters(recurse=False)
    }
    chosen = {
        id(parameter) for block in cut[:-1] for parameter in block.parameters if policy.learns(*owner[id(parameter)])
    } | {id(parameter) for parameter in cut[-1].parameters}
    for block in cut:
        block.learnable = [one for one in block.parameters if one.requires_grad and id(one) in chosen]
        block.still = [module for top in block.modules for module in _left_out(top, chosen)]
    return cut


def _left_out(module: nn.Module, chosen: Collection[int]) -> Iterator[nn.Module]:
    """The largest modules in ``module`` that have parameters of which none is chosen."""
    parameters = [id(parameter) for parameter in module.parameters()]
    if parameters and not any(one in chosen for one in parameters):
        yield module
    else:
        for child in module.children():
            yield from _left_out(child, chosen)


def apply(policy: Freeze, model_blocks: Sequence[Block], progress: float) -> None:
    """Freeze and unfreeze blocks at this progress; called before every training batch.

    A frozen block has no gradients and is in eval mode: dropout is off and running statistics do not change, even
    after ``model.train()``. A block that learns is in train mode; modules inside it that are in eval mode stay there
    if the block is in train mode already, and those none of whose parameters learn are always in eval mode.
    """
    for block, scale in zip(model_blocks, scales_at(policy, model_blocks, progress), strict=True):
        learns = scale > 0
        learning = {id(parameter) for parameter in block.learnable} if learns else set()
        for parameter in block.parameters:
            if parameter.requires_grad != (id(parameter) in learning):
                parameter.requires_grad_(id(parameter) in learning)
                parameter.grad = None
        for module in block.modules:
            if learns and not module.training:
                module.train()
            elif not learns and any(part.training for part in module.modules()):
                module.eval()
        for module in block.still:
            if any(part.training for part in module.modules()):
                module.eval()


def parameter_groups(
    policy: Freeze, model_blocks: Sequence[Block], lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups for the optimizer, with only the parameters that learn at some time.

    Neighbouring blocks with the same learning rate share a group, named after the first and last block. Biases and
    norms (fewer than 2 dimensions) are in a separate group, ``…/no_decay``, without weight decay.

    Args:
        lr: learning rate; a group's is this times its blocks' scale at progress 1.

    Returns:
        ``[{"name", "params", "lr", "weight_decay"}]``.

    Raises:
        UserError: no parameter would ever learn.
    """
    runs: list[tuple[float, list[Block]]] = []
    for block, scale in zip(model_blocks, highest(policy, len(model_blocks)), strict=True):
        if scale and block.learnable and runs and runs[-1][0] == scale:
            runs[-1][1].append(block)
        elif block.learnable:
            runs.append((scale, [block]))
    groups: list[dict[str, Any]] = []
    for scale, members in runs:
        parameters = [parameter for block in members for parameter in block.learnable]
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
    """A row for each block, from the bottom: ``{"block", "parameters", "trainable", "lr_scale"}`` at ``progress``."""
    return [
        {
            "block": block.name,
            "parameters": sum(parameter.numel() for parameter in block.parameters),
            "trainable": sum(parameter.numel() for parameter in block.learnable) if scale > 0 else 0,
            "lr_scale": scale,
        }
        for block, scale in zip(model_blocks, scales_at(policy, model_blocks, progress), strict=True)
    ]


def prepare(policy: Freeze, model_blocks: Sequence[Block]) -> None:
    """Require gradients for the parameters that learn at some time alone, as a distributed wrapper needs it."""
    for block, scale in zip(model_blocks, highest(policy, len(model_blocks)), strict=True):
        learning = {id(parameter) for parameter in block.learnable} if scale > 0 else set()
        for parameter in block.parameters:
            parameter.requires_grad_(id(parameter) in learning)


def scales_at(policy: Freeze, model_blocks: Sequence[Block], progress: float) -> list[float]:
    """The policy's scales, 0 for a block without a parameter that may learn."""
    scales = policy.scales(len(model_blocks), progress)
    return [scale if block.learnable else 0.0 for block, scale in zip(model_blocks, scales, strict=True)]


def changes(policy: Freeze, blocks: int) -> bool:
    """Whether a block learns at one time and is frozen at another.

    Example:
        >>> from kdlab.freeze.bottom import Bottom
        >>> from kdlab.freeze.gradual import Gradual
        >>> changes(Gradual(until=0.5), blocks=4), changes(Bottom(layers=1), blocks=4)
        (True, False)
    """
    over_time = [policy.scales(blocks, moment / MOMENTS) for moment in range(MOMENTS + 1)]
    return any(min(column) == 0 < max(column) for column in zip(*over_time, strict=True))


def highest(policy: Freeze, blocks: int) -> list[float]:
    """Each block's scale at progress 1, or, where that is 0, its largest at any time.

    Example:
        >>> from kdlab.freeze.bottom import Bottom
        >>> highest(Bottom(layers=1), blocks=4)
        [0.0, 0.0, 1.0, 1.0]
    """
    over_time = [policy.scales(blocks, moment / MOMENTS) for moment in range(MOMENTS + 1)]
    return [last or max(column) for last, column in zip(over_time[-1], zip(*over_time, strict=True), strict=True)]
