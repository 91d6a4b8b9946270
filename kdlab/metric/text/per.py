"""The error rate of symbols that spaces separate, such as phonemes."""

from __future__ import annotations

from typing import ClassVar, final

from kdlab.direction import Directions
from kdlab.metric.text.base import TextScore, Written
from kdlab.metric.text.wer import error_rate


@final
class Per(TextScore):
    """See :func:`kdlab.metric.text.wer.error_rate`, over symbols as they are."""

    higher_is_better: ClassVar[Directions] = {"per": False}
    primary = "per"
    package, module = "jiwer", "jiwer"

    def compute(self, written: Written) -> dict[str, float]:
        return {"per": error_rate(written.answers, written.references)}
