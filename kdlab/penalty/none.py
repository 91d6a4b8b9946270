"""No penalty."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from kdlab.penalty.base import Penalty


@final
class Nothing(Penalty):
    """The weights are as free as the optimizer's own weight decay leaves them."""

    active = False

    def __init__(self, model: nn.Module) -> None:
        pass

    def add(self) -> dict[str, Tensor]:
        return {}
