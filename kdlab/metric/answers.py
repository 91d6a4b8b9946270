"""A model's logits on labelled rows, gathered from batches and processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.metric.writing import gathered
from kdlab.outcome import Bernoulli, Categorical, Outcome
from kdlab.output import Output
from kdlab.task.base import Task


@dataclass(frozen=True)
class Answers:
    """Predictions and their targets, by row.

    Attributes:
        row: ``[N]`` int64, the ids of the rows, from the lowest; a row with several positions comes several times.
        logits: ``[N, C]`` float32, on the CPU.
        label: ``[N]`` int64, or of several labels a row ``[N, C]``; -1: unknown.
    """

    row: Tensor
    logits: Tensor
    label: Tensor

    @classmethod
    def of(cls, output: Output, batch: Batch) -> Answers:
        """The positions of a batch that count."""
        mask, label = output.mask, batch.target["label"]
        row = batch.row.to(mask.device).view(-1, *[1] * (mask.ndim - 1)).expand_as(mask)
        found = (row[mask], output.logits[mask].float(), label.to(mask.device)[mask].long())
        return cls(*(one.detach().cpu() for one in found))

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """All of them by row, whatever the order of the parts.

        Example:
            >>> def part(row): return Answers(torch.tensor([row]), torch.zeros(1, 2), torch.tensor([row % 2]))
            >>> Answers.joined([part(3), part(2)]).label.tolist()
            [0, 1]
        """
        whole = [torch.cat([getattr(one, name) for one in parts]) for name in ("row", "logits", "label")]
        order = whole[0].argsort(stable=True)
        return cls(*(one[order] for one in whole))

    @property
    def known(self) -> Answers:
        """Those with a label."""
        real = self.label >= 0 if self.label.ndim == 1 else (self.label >= 0).all(-1)
        return Answers(self.row[real], self.logits[real], self.label[real])

    def single(self, outcome: Outcome, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Log probabilities ``[M, S]`` and answers ``[M]``: of several labels a row, each is an answer of its own.

        Args:
            temperature: that logits are divided by.
        """
        logs = outcome.log_probabilities(self.logits.double() / temperature)
        return logs.flatten(0, -2), outcome.states(self.label).flatten()

    def __len__(self) -> int:
        return len(self.row)


def decides(task: Task) -> bool:
    """Whether a task chooses between labels that rows have, one or several; numbers and next tokens are no labels."""
    return task.uses_labels and isinstance(task.outcome, Categorical | Bernoulli)


def together(parts: Sequence[Answers]) -> Answers | None:
    """The answers of all processes; every process calls it. None: there are none."""
    found = [part for some in gathered(list(parts)) for part in some if len(part)]
    return Answers.joined(found) if found else None
