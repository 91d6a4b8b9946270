"""One class for every word of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, final

from torch import Tensor

from kdlab.batch import Batch
from kdlab.outcome import Categorical
from kdlab.output import Output
from kdlab.task.classification import Classification
from kdlab.value import NonNegative, Share

FIRST = "first"  # of a batch's target: the first piece of each word


@final
class TokenClassification(Classification):
    """Reads logits ``[B, L, C]``, one vector a token, of which the first piece of each word counts.

    Losses, metrics and a teacher's answers are about these pieces alone, whether a row has tags or not.

    Args:
        class_weights, label_smoothing: see :class:`kdlab.task.classification.Classification`.
    """

    kind = "token_classification"
    unit = "token"

    def __init__(
        self,
        class_weights: Literal["balanced"] | Sequence[NonNegative] | None = None,
        label_smoothing: Share = 0.0,
    ) -> None:
        super().__init__(Categorical(), label_smoothing, class_weights)
        self.counts = "words"

    def frame(self, logits: Tensor, batch: Batch) -> Output:
        found = super().frame(logits, batch)
        first = batch.target.get(FIRST)
        return found if first is None else replace(found, mask=found.mask & first)
