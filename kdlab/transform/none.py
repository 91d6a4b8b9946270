"""Nothing is changed."""

from __future__ import annotations

from typing import Any, final

from torch import nn

from kdlab.transform.base import Peft


@final
class Nothing(Peft):
    """All of the model's own parameters may learn."""

    def attach(self, model: nn.Module, data: Any) -> nn.Module:
        return model
