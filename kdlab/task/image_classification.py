"""One class for every image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

from kdlab.outcome import Categorical
from kdlab.task.classification import Classification
from kdlab.value import NonNegative, Share


@final
class ImageClassification(Classification):
    """Reads logits ``[B, C]``, one row an image.

    Args:
        class_weights, label_smoothing: see :class:`kdlab.task.classification.Classification`.
    """

    kind = "image_classification"

    def __init__(
        self,
        class_weights: Literal["balanced"] | Sequence[NonNegative] | None = None,
        label_smoothing: Share = 0.0,
    ) -> None:
        super().__init__(Categorical(), label_smoothing, class_weights)
