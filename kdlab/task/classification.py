"""One of several classes, or any of several labels, for every row or for every token of it."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.outcome import Bernoulli, Outcome
from kdlab.output import Output, at_least_float32
from kdlab.task.labelled import Labelled
from kdlab.task.weight import class_weight


class Classification(Labelled, ABC):
    """The base of all classification tasks. A subclass sets ``kind``, and ``unit`` where it is no row.

    Args:
        outcome: the meaning of logits: :class:`kdlab.outcome.Categorical` or :class:`kdlab.outcome.Bernoulli`.
        label_smoothing: in [0, 1), as in :func:`torch.nn.functional.cross_entropy`; labels of a row that may have
            several go towards 1/2.
        class_weights: None, ``"balanced"`` (inverse to how often a class occurs), or a weight for each class; their
            mean over the labelled training rows is made 1, so that micro-batches add up. One class a row only.
    """

    def __init__(
        self,
        outcome: Outcome,
        label_smoothing: float = 0.0,
        class_weights: str | Sequence[float] | None = None,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise UserError(
                f"task.label_smoothing is {label_smoothing}, but must be in [0, 1): 0 is none, 0.1 is common."
            )
        if isinstance(outcome, Bernoulli) and class_weights is not None:
            raise UserError(
                "task.class_weights is set on a multi-label task, but weighs the one label of a row: set "
                "task.class_weights=null."
            )
        self.outcome = outcome
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        self.weight: Tensor | None = None
        self.counts = "rows" if self.unit == "row" else "positions"

    def prepare(self, labels: Sequence[str], counts: Sequence[int]) -> None:
        self.outcome = type(self.outcome)(labels)
        self.weight = class_weight(self.class_weights, list(labels), list(counts))

    @property
    def problem(self) -> str:  # type: ignore[override]
        return f"{'multi' if isinstance(self.outcome, Bernoulli) else 'single'}_label_classification"

    def supervised(self, output: Output, batch: Batch) -> Tensor:
        label, logits = batch.target["label"], at_least_float32(output.logits)
        several = isinstance(self.outcome, Bernoulli)
        if label.ndim != logits.ndim - (not several):
            raise UserError(
                f"task.multi_label is {several}, but the data's labels are {tuple(label.shape)}: "
                f"set task.multi_label={not several}."
            )
        if several:
            labelled = (label >= 0).all(-1)
            smoothed = label.clamp(min=0) * (1 - self.label_smoothing) + self.label_smoothing / 2
            values = binary_cross_entropy_with_logits(logits, smoothed.to(logits), reduction="none").mean(-1)
        else:
            labelled = label >= 0
            weight = None if self.weight is None else self.weight.to(logits)
            flat = cross_entropy(
                logits.flatten(0, -2), label.clamp(min=0).flatten(), weight, reduction="none",
                label_smoothing=self.label_smoothing,
            )  # fmt: skip
            values = flat.view(label.shape)
        # a step without any labelled row has count 0: None makes that 0 / 1
        return output.restrict(labelled, count=batch.size.get("labelled") or None).mean(values)

    def scored(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
        """Probabilities ``[N, C]`` of all positions that count, and their labels as they are in the batch."""
        probabilities, label = self.outcome.probabilities(output.logits), batch.target["label"]
        return (probabilities, label) if self.unit == "row" else (probabilities[output.mask], label[output.mask])
