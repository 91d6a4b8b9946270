"""What the rules share that have a teacher: its place outside the module, its state, and fidelity on a split."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from kdlab.batch import Batch
from kdlab.direction import declared
from kdlab.error import UserError
from kdlab.freeze.base import Freeze
from kdlab.loss.chunk import parts
from kdlab.loss.objective import Objective
from kdlab.metric.fidelity import fidelity
from kdlab.model.shard import split
from kdlab.module.base import Learner
from kdlab.output import Output
from kdlab.schedule.base import Schedule, held
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher


class Taught(Learner, ABC):
    """A student with a teacher and an objective; a subclass says what is learned from a batch.

    The teacher is no registered submodule: it reaches neither the optimizer, nor ``.train()``, nor the state of the
    module. What it has to remember is in the checkpoint under a key of its own.
    """

    trains_teacher: bool = False

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
        if teacher.learns and not self.trains_teacher:
            raise UserError("teacher=peer has to learn with the student: choose module=mutual, or another teacher")
        self.loss = loss
        self.loss.balance.watch(model)
        self._teacher = (teacher,)
        if task.chunk is not None and not teacher.chunks:
            raise UserError(
                f"this teacher combines all logits of a batch, but task.chunk={task.chunk} makes some at a time: set "
                "task.chunk=null, or choose teacher=cached or live"
            )
        comparison = fidelity(task.outcome, teacher.top_k is not None)
        self.val_fidelity, self.test_fidelity = comparison.clone(prefix="val/"), comparison.clone(prefix="test/")
        self.teacher_metric = self.test_metric.clone(prefix="teacher/test/")

    @property
    def directions(self) -> dict[str, bool | None]:
        return super().directions | declared(self.val_fidelity)

    @property
    def teacher(self) -> Teacher:
        return self._teacher[0]

    @property
    def taps(self) -> Collection[str]:
        return self.loss.taps["student"]

    def unsplittable(self) -> dict[str, bool]:
        return super().unsplittable() | {"the teacher takes in the student's weights": self.teacher.follows}

    def split(self, device: torch.device) -> None:
        super().split(device)
        for model in self.teacher.models.values():
            split(model, device)

    def extra_groups(self) -> list[dict[str, Any]]:
        return self.loss.groups

    def learned(self, total: Tensor, values: dict[str, Tensor], batch: Batch) -> Tensor:
        """Log the loss of a batch and its parts, and return the loss."""
        named: dict[str, Tensor | float] = {"train/loss": total}
        named |= {f"train/loss/{name}": value for name, value in values.items()}
        named |= {f"train/schedule/{name}": value for name, value in self.loss.current(self.progress).items()}
        self.tell(named, batch)
        return total

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        self.teacher.follow(self.model, self.progress)

    @property
    def schedules(self) -> list[Schedule]:
        return [*super().schedules, *held(self.teacher)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if state := self.teacher.state():
            checkpoint["teacher"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.teacher.restore(checkpoint.get("teacher", {}))

    def evaluation_step(self, batch: Batch, split: str, metric: MetricCollection) -> Output:
        student = super().evaluation_step(batch, split, metric)
        teacher, count = self.teacher.read(self.task, batch), self.counted(batch)
        comparison = self.val_fidelity if split == "val" else self.test_fidelity
        for own, goal in parts(self.task.chunk, student, teacher):
            comparison.update(own.logits[own.mask], *(one[own.mask] for one in goal.said))
            if split == "test" and goal.top is None and self.scores(batch):
                self.teacher_metric.update(*self.task.scored(goal, batch))
        self.log_dict(comparison, on_step=False, on_epoch=True, batch_size=count)
        if split == "test" and teacher.top is None and self.scores(batch):
            self.log_dict(self.teacher_metric, on_step=False, on_epoch=True, batch_size=count)
        return student
