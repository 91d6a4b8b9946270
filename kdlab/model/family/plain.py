"""Modules that declare no family."""

from __future__ import annotations

from typing import final

from torch import nn

from kdlab.error import UserError
from kdlab.model.family.base import Family
from kdlab.model.family.origin import Origin


@final
class Plain(Family):
    """A module with ``forward`` and, where it is frozen by block, a method ``blocks``; submodules are its taps."""

    def taps(self, model: nn.Module) -> dict[str, Origin]:
        return self.pooled(model)

    def layers(self, model: nn.Module) -> str:
        raise UserError(
            f"Cannot split {type(model).__name__} into layers. Add a method blocks() to it that returns a list of "
            'kdlab.model.block.Block from bottom to top, such as [Block("embedding", [self.table]), '
            'Block("layer.0", [self.layer]), Block("head", [self.classifier])], or, where its layers are a list, '
            'declare it: family = kdlab.model.family.stack.Stack("layers").'
        )
