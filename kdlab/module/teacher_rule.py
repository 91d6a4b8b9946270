"""What training rules with a teacher share: the teacher outside the module, its state, and its scores on the test."""

from __future__ import annotations

from abc import ABC
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.model.shard import split
from kdlab.module.base import TrainingRule
from kdlab.module.evaluation import Measured
from kdlab.module.parts import TeacherParts
from kdlab.output import Output
from kdlab.schedule.base import Schedule, schedules_of
from kdlab.teacher.base import Teacher


class TeacherRule(TrainingRule, ABC):
    """A student with a teacher and an objective; a subclass adds the ``training_step``.

    The teacher is no registered submodule: the optimizer, ``.train()`` and ``state_dict()`` do not reach it. Its state
    is in the checkpoint as ``teacher``.
    """

    trains_teacher: bool = False
    has_teacher = True

    def __init__(self, parts: TeacherParts, seed: int) -> None:
        super().__init__(parts, seed)
        task, teacher = parts.task, parts.teacher
        if teacher.learns and not self.trains_teacher:
            raise UserError("teacher=peer has to learn with the student: choose module=mutual, or another teacher")
        self.loss = parts.loss
        self.loss.balance.watch(parts.model)
        self._teacher = (teacher,)
        if task.chunk is not None and not teacher.chunks:
            raise UserError(
                f"this teacher combines all logits of a batch, but task.chunk={task.chunk} makes some at a time: set "
                "task.chunk=null, or choose teacher=cached or live"
            )
        # a teacher with all its logits is scored as its student is, by the metrics that need no other model
        self.teacher_evaluators = parts.metric.chosen("test", without=("teacher", "gradients", "generation", "model"))

    @property
    def teacher(self) -> Teacher:
        return self._teacher[0]

    @property
    def frozen_teacher(self) -> nn.Module | None:
        changes = self.teacher.learns or self.teacher.follows
        return None if changes else self.teacher.models.get("teacher")

    @property
    def taps(self) -> Collection[str]:
        return self.loss.taps["student"]

    def unsplittable(self) -> dict[str, bool]:
        return super().unsplittable() | {"the teacher follows the student's weights": self.teacher.follows}

    def split(self, device: torch.device) -> None:
        super().split(device)
        for model in self.teacher.models.values():
            split(model, device)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.teacher.processor is not None:
            self.teacher_evaluators.learn(self.teacher.processor)

    def extra_groups(self) -> list[dict[str, Any]]:
        return self.loss.groups

    def log_loss(self, total: Tensor, values: dict[str, Tensor], batch: Batch) -> Tensor:
        """Log the loss of a batch and its parts, and return the loss."""
        named: dict[str, Tensor | float] = {"train/loss": total}
        named |= {f"train/loss/{name}": value for name, value in values.items()}
        named |= {f"train/schedule/{name}": value for name, value in self.loss.current(self.progress).items()}
        self.log_values(named, batch)
        return total

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        self.teacher.follow(self.model, self.progress)

    @property
    def schedules(self) -> list[Schedule]:
        return [*super().schedules, *schedules_of(self.teacher)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if state := self.teacher.state():
            checkpoint["teacher"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.teacher.restore(checkpoint.get("teacher", {}))

    def measured(self, split: str) -> Measured:
        found = super().measured(split)
        return found if split == "val" else Measured(found | {"teacher/test/": self.teacher_evaluators})

    def answer(self, batch: Batch) -> Output | None:
        return self.teacher.read(self.task, batch)

    def also(self, batch: Batch, split: str, *teacher: Output) -> None:
        for one in teacher if split == "test" else ():
            if one.top is None:
                self.teacher_evaluators.update(one, batch, labelled=self.scores(batch))
