"""Nothing is changed."""

from __future__ import annotations

from typing import final

from torch import nn

from kdlab.datamodule.data import Data
from kdlab.transform.base import Peft


@final
class Nothing(Peft):
    """All of the model's own parameters may learn."""

    def attach(self, model: nn.Module, data: Data | None) -> nn.Module:
        return model
