"""Nothing is added."""

from __future__ import annotations

from typing import final

from torch import nn

from kdlab.peft.base import Peft


@final
class Nothing(Peft):
    """All of the model's own parameters may learn."""

    def attach(self, model: nn.Module) -> nn.Module:
        return model

    def merge(self, model: nn.Module) -> nn.Module:
        return model
