"""Only the head learns."""

from __future__ import annotations

from kdlab.freeze.base import Freeze


class Head(Freeze):
    """Embeddings and layers stay as they are: linear probing."""

    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        return (0.0,) * (blocks - 1) + (1.0,)
