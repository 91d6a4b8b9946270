"""Several teachers whose probabilities are combined."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.outcome import Outcome
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher
from kdlab.teacher.combine.base import Combine, mixed


@final
class Ensemble(Teacher):
    """Logits that are the logarithms of the members' combined probabilities (log-odds where labels are several).

    Each member's own logits are offered as the tap ``logits.<name>`` ``[B, C]``. Members may differ in architecture and
    tokenizer: they are compared row by row.

    Args:
        members: teachers by name, two or more.
        combine: the weight of each member in each row.
        data: a datamodule after ``setup``; only labels of its training rows are read.
        taps: the tap names that the objective reads; all members' logits are always offered.
        store: not used; members have stores of their own.
    """

    needs_classes = True

    def __init__(
        self, members: Mapping[str, Teacher], combine: Combine, data: Data, taps: Collection[str], store: Path
    ) -> None:
        self.members = dict(members)
        if len(self.members) < 2:
            raise UserError(
                f"teacher=ensemble has {len(self.members)} members, and needs two or more: add each with "
                "+teacher@teacher.members.NAME=cached and teacher.members.NAME.run=… or .recipe=[…]"
            )
        self.offered = [f"logits.{name}" for name in self.members]
        if unknown := sorted(set(taps) - set(self.offered)):
            raise UserError(f"teacher=ensemble has no tap '{unknown[0]}': its members are {', '.join(self.members)}")
        combine.prepare(list(self.members))
        self.combine, self.classes = combine, len(data.labels)
        self.trains = np.zeros(len(data.lengths), bool)
        self.trains[data.splits["train"]] = True
        self.reads_new_rows = all(member.reads_new_rows for member in self.members.values())
        self.seconds = sum(member.seconds for member in self.members.values())

    @classmethod
    def accept(cls, taps: Collection[str]) -> None:
        other = sorted(tap for tap in taps if not tap.startswith("logits."))
        if other:
            raise UserError(
                f"teacher=ensemble does not offer '{other[0]}': its members may differ in width and depth, so it has "
                "logits and logits.<member> only; leave this term out, or use a single teacher"
            )

    def read(self, task: Task, batch: Batch) -> Output:
        outputs = [member.read(task, batch) for member in self.members.values()]
        log_p = task.outcome.log_probabilities(torch.stack([one.logits for one in outputs]))
        weights = self.combine.weights(log_p, self._state(batch, task.outcome))
        return Output(
            logits=task.outcome.logits(mixed(log_p, weights)),
            mask=outputs[0].mask,
            taps={tap: one.logits for tap, one in zip(self.offered, outputs, strict=True)},
            tokens=batch.original.tokens,
            count=batch.size.get("rows"),
            label=batch.target.get("label"),
            row=batch.row,
        )

    def widths(self) -> Mapping[str, int]:
        return dict.fromkeys(self.offered, self.classes)

    def _state(self, batch: Batch, outcome: Outcome) -> Tensor:
        """``[B, K]``: the labels of training rows; -1 for other rows and where there is none."""
        label = outcome.states(batch.target["label"])
        trains = torch.from_numpy(self.trains[batch.row.cpu().numpy()]).to(label.device)
        return label.where(trains[:, None], -1)
