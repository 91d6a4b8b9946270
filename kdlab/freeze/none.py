"""Everything learns."""

from __future__ import annotations

from kdlab.freeze.base import Freeze


class Nothing(Freeze):
    """All blocks learn at the full learning rate."""

    def scales(self, blocks: int, progress: float) -> tuple[float, ...]:
        return (1.0,) * blocks
