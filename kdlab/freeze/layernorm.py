"""Only the layer norms and the head learn."""

from __future__ import annotations

from torch import nn

from kdlab.freeze.base import Freeze


class LayerNorm(Freeze):
    """Gains and biases of every layer norm and RMS norm learn; all other parameters below the head are frozen.

    Source: Houlsby et al. 2019, arXiv:1902.00751 (where it is compared with adapters).
    """

    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        return (1.0,) * blocks

    def learns(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.LayerNorm) or type(module).__name__.endswith(("LayerNorm", "RMSNorm"))
