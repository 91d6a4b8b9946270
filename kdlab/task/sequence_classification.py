"""One label, or with multi_label any number of labels, for every text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, final

from torch import nn

from kdlab.outcome import Bernoulli, Categorical
from kdlab.task.classification import Classification
from kdlab.value import NonNegative, Share

Head = Callable[[int, int], nn.Module]


@final
class SequenceClassification(Classification):
    """Reads logits ``[B, C]``, one row a text.

    Args:
        multi_label: labels are ``[B, C]`` of 0 and 1 rather than ``[B]`` class numbers; unlabelled rows are -1.
        class_weights, label_smoothing: see :class:`kdlab.task.classification.Classification`.
        head: ``(in_features, number of labels) -> module`` to replace the model's final linear layer; None keeps it.
    """

    kind = "sequence_classification"

    def __init__(
        self,
        multi_label: bool = False,
        class_weights: Literal["balanced"] | Sequence[NonNegative] | None = None,
        label_smoothing: Share = 0.0,
        head: Head | None = None,
    ) -> None:
        super().__init__(Bernoulli() if multi_label else Categorical(), label_smoothing, class_weights)
        self.head = head

    def attach(self, model: nn.Module) -> nn.Module:
        """Put the head in, where there is one, and the label names into ``model.config``, where there is one.

        A model that brings a classifier with it (``keeps_head``) keeps it.
        """
        if self.head is not None and not getattr(model, "keeps_head", False):
            from kdlab.model.family.find import family

            path, last = family(model).find_head(model)
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, self.head(last.in_features, len(self.outcome.names)))
        return super().attach(model)
