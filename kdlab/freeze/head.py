"""Only the head learns."""

from __future__ import annotations

from kdlab.freeze.base import Freeze


class Head(Freeze):
    """Embeddings and layers are frozen, in eval mode: linear probing, also called feature extraction.

    The output of the frozen layers on a row is computed once and read in every epoch and run (``reuse_frozen=true``).
    """

    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        return (0.0,) * (blocks - 1) + (1.0,)
