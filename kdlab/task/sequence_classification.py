"""One label, or with multi_label any number of labels, for every text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.outcome import Bernoulli, Categorical, Outcome
from kdlab.output import Output, widen
from kdlab.task.base import Task
from kdlab.task.weight import class_weight
from kdlab.value import NonNegative, Share

Head = Callable[[int, int], nn.Module]


class SequenceClassification(Task):
    """Reads logits ``[B, C]``, one row a text.

    Args:
        multi_label: labels are ``[B, C]`` of 0 and 1 rather than ``[B]`` class numbers; unlabelled rows are -1.
        class_weights: None, ``"balanced"`` (inverse to how often a class occurs), or a weight for each label. They are
            normalised so that their mean over the labelled training rows is 1: a row counts ``w[label] * ce`` and the
            divisor stays the number of rows, so that micro-batches add up. Single-label only.
        label_smoothing: in [0, 1), as in :func:`torch.nn.functional.cross_entropy`; multi-label targets go towards 1/2.
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
        if not 0 <= label_smoothing < 1:
            raise UserError(
                f"task.label_smoothing is {label_smoothing}, but must be in [0, 1): 0 is none, 0.1 is common."
            )
        if multi_label and class_weights is not None:
            raise UserError(
                "task.class_weights is set on a multi-label task, but weighs the one label of a row: set "
                "task.class_weights=null."
            )
        self.outcome: Outcome = Bernoulli() if multi_label else Categorical()
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self.head = head
        self.weight: Tensor | None = None

    def prepare(self, labels: Sequence[str], counts: Sequence[int]) -> None:
        self.outcome = type(self.outcome)(labels)
        self.weight = class_weight(self.class_weights, list(labels), list(counts))

    def attach(self, model: nn.Module) -> nn.Module:
        """Put the head in, where there is one, and the label names into ``model.config``, where there is one.

        A model that brings a classifier with it (``keeps_head``) keeps it.
        """
        if self.head is not None and not getattr(model, "keeps_head", False):
            from kdlab.model.tap import final_linear

            path, last = final_linear(model)
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, self.head(last.in_features, len(self.outcome.names)))
        config = getattr(model, "config", None)
        if config is not None:
            config.id2label = dict(enumerate(self.outcome.names))
            config.label2id = {label: i for i, label in enumerate(self.outcome.names)}
            several = isinstance(self.outcome, Bernoulli)
            config.problem_type = "multi_label_classification" if several else "single_label_classification"
        return model

    def read(self, model: nn.Module, batch: Batch, taps: Collection[str] = ()) -> Output:
        from kdlab.model.tap import read

        logits, found = read(model, batch, taps)
        names = self.outcome.names
        if logits.shape[-1] != len(names):
            raise UserError(
                f"{type(model).__name__} gives {logits.shape[-1]} logits, but the data has {len(names)} labels "
                f"({', '.join(names[:8])}): use a model that was trained on these labels, or a fresh head."
            )
        return replace(self.frame(logits, batch), taps=found)

    def frame(self, logits: Tensor, batch: Batch) -> Output:
        mask = torch.ones(logits.shape[:-1], dtype=torch.bool, device=logits.device)
        return Output(
            logits, mask, tokens=batch.tokens, count=batch.size.get("rows"), label=batch.target.get("label"),
            row=batch.row,
        )  # fmt: skip

    def supervised(self, output: Output, batch: Batch) -> Tensor:
        label, logits = batch.target["label"], widen(output.logits)
        several = isinstance(self.outcome, Bernoulli)
        if label.ndim != (2 if several else 1):
            raise UserError(
                f"task.multi_label is {several}, but the data's labels are {tuple(label.shape)}: "
                f"set task.multi_label={not several}."
            )
        if several:
            labelled = (label >= 0).all(-1)
            goal = label.clamp(min=0) * (1 - self.label_smoothing) + self.label_smoothing / 2
            values = binary_cross_entropy_with_logits(logits, goal.to(logits), reduction="none").mean(-1)
        else:
            labelled = label >= 0
            weight = None if self.weight is None else self.weight.to(logits)
            values = cross_entropy(
                logits, label.clamp(min=0), weight, reduction="none", label_smoothing=self.label_smoothing
            )
        # a step without any labelled row has count 0: None makes that 0 / 1
        return output.only(labelled, count=batch.size.get("labelled") or None).mean(values)

    def scored(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
        """Probabilities ``[B, C]``, and the labels as they are in the batch."""
        return self.outcome.probabilities(output.logits), batch.target["label"]
