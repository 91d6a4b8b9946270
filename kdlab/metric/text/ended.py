"""The share of answers that came to an end by themselves."""

from __future__ import annotations

from typing import ClassVar, final

from kdlab.direction import Directions
from kdlab.metric.text.base import TextScore, Written


@final
class Ended(TextScore):
    """The share of answers whose last token ends a text; the others were cut at the largest length."""

    higher_is_better: ClassVar[Directions] = {"ended": True}
    primary = "ended"

    def compute(self, written: Written) -> dict[str, float]:
        return {"ended": sum(written.ended) / len(written.ended) if written.ended else float("nan")}
