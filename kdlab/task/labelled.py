"""The base of tasks that predict the labels of the data: how a model with a logit a label is read."""

from __future__ import annotations

from abc import ABC
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.output import Output
from kdlab.task.base import Task


class Labelled(Task, ABC):
    """A task whose model has a logit for each name of its outcome.

    Attributes:
        problem: what transformers calls it, for ``model.config.problem_type``.
    """

    problem: str

    def attach(self, model: nn.Module) -> nn.Module:
        """Write the label names into ``model.config``, where there is one."""
        config = getattr(model, "config", None)
        if config is not None:
            names = self.outcome.names
            config.id2label = dict(enumerate(names))
            config.label2id = {label: i for i, label in enumerate(names)}
            config.problem_type = self.problem
        return model

    def read(self, model: nn.Module, batch: Batch, taps: Collection[str] = ()) -> Output:
        from kdlab.model.tap import read

        logits, found = read(model, batch, taps)
        names = self.outcome.names
        if logits.ndim < 3 and self.unit != "row":
            raise UserError(
                f"{type(model).__name__} gives one vector of logits a row, but task={self.option()} predicts one for "
                "each token: choose a transformer, such as model=bert_tiny, minilm_l6 or hf"
            )
        if logits.shape[-1] != len(names):
            raise UserError(
                f"{type(model).__name__} gives {logits.shape[-1]} logits, but the data has {len(names)} labels "
                f"({', '.join(names[:8])}): use a model that was trained on these labels, or a fresh head."
            )
        return replace(self.frame(logits, batch), taps=found)

    def frame(self, logits: Tensor, batch: Batch) -> Output:
        mask = torch.ones(logits.shape[:-1], dtype=torch.bool, device=logits.device)
        if self.unit != "row" and batch.tokens is not None:
            mask = batch.tokens
        return Output(
            logits, mask, tokens=batch.tokens, count=batch.size.get(self.counts) or None,
            label=batch.target.get("label"), row=batch.row,
        )  # fmt: skip
