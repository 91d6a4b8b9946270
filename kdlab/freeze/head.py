"""Only the head learns."""

from __future__ import annotations

from kdlab.freeze.base import Freeze


class Head(Freeze):
    """Embeddings and layers stay as they are, in eval mode: linear probing, also called feature extraction.

    What the frozen layers say of a row is computed once and read again in every epoch and run (``reuse_frozen=true``).
    """

    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        return (0.0,) * (blocks - 1) + (1.0,)
