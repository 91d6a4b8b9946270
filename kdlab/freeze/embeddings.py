"""The embeddings are frozen."""

from __future__ import annotations

from kdlab.freeze.base import Freeze


class Embeddings(Freeze):
    """Layers and head learn. Most parameters of a small model are embeddings, so this saves optimizer memory."""

    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        return (0.0,) + (1.0,) * (blocks - 1)
