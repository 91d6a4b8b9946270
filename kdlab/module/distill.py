"""Train a student with a frozen teacher."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, final

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from kdlab.freeze.base import Freeze
from kdlab.loss.objective import Objective
from kdlab.metric.fidelity import fidelity
from kdlab.module.base import Learner
from kdlab.output import Batch, Output
from kdlab.schedule.base import Schedule
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher


@final
class Distill(Learner):
    """The distillation rule: the batch is read twice, and the objective compares what the two said.

    The teacher is no registered submodule: it reaches neither the checkpoint, nor the optimizer, nor ``.train()``.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: Teacher,
        task: Task,
        loss: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Schedule,
        freeze: Freeze,
        metric: MetricCollection,
        seed: int,
    ) -> None:
        super().__init__(model, task, optimizer, scheduler, freeze, metric, seed)
        self.loss = loss
        self._teacher = (teacher,)
        multi_label = self.task.multi_label
        self.val_fidelity = fidelity(multi_label).clone(prefix="val/")
        self.test_fidelity = fidelity(multi_label).clone(prefix="test/")
        self.teacher_metric = self.test_metric.clone(prefix="teacher/test/")

    @property
    def teacher(self) -> Teacher:
        return self._teacher[0]

    @property
    def taps(self) -> Collection[str]:
        return self.loss.taps["student"]

    def extra_groups(self) -> list[dict[str, Any]]:
        return self.loss.groups

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        student = self.read(batch)
        teacher = self.teacher.read(self.task, batch)
        supervised = self.task.supervised(student, batch)
        total, values = self.loss(supervised, student, teacher, self.progress)
        named = {"train/loss": total} | {f"train/loss/{name}": value for name, value in values.items()}
        named |= {f"train/schedule/{name}": value for name, value in self.loss.current(self.progress).items()}
        self.log_dict(named, batch_size=len(batch["row"]), sync_dist=True)
        return total

    def evaluation_step(self, batch: Batch, split: str, metric: MetricCollection) -> Output:
        student = super().evaluation_step(batch, split, metric)
        teacher = self.teacher.read(self.task, batch)
        comparison = self.val_fidelity if split == "val" else self.test_fidelity
        comparison.update(student.logits, teacher.logits)
        self.log_dict(comparison, on_step=False, on_epoch=True, batch_size=len(batch["row"]))
        if split == "test":
            self.teacher_metric.update(self.task.probabilities(teacher.logits), batch["label"])
            self.log_dict(self.teacher_metric, on_step=False, on_epoch=True, batch_size=len(batch["row"]))
        return student
