"""Only biases and the head learn."""

from __future__ import annotations

from torch import nn

from kdlab.freeze.base import Freeze


class BitFit(Freeze):
    """Every bias learns, those of layer norms too; all other parameters below the head are frozen.

    Source: Ben Zaken, Ravfogel, Goldberg 2022, arXiv:2106.10199, section 3.
    """

    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        return (1.0,) * blocks

    def learns(self, module: nn.Module, name: str) -> bool:
        return name == "bias" or name.endswith("_bias")
