"""What training rules that learn from the student's own texts share: what they refuse, draw, log and keep."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed import all_gather_object

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.loss.balance.none import Plain
from kdlab.loss.objective import Objective
from kdlab.module.parts import TeacherParts
from kdlab.module.samples import Samples
from kdlab.module.teacher_rule import TeacherRule
from kdlab.task.base import Task
from kdlab.task.generative import GenerativeTask
from kdlab.teacher.base import Teacher


class StudentTextRule(TeacherRule, ABC):
    """A student that writes, and a teacher that reads what it wrote; a subclass adds the ``training_step``.

    Answers that later steps learn from are in the checkpoint as ``samples``.
    """

    higher_is_better = TeacherRule.higher_is_better | {"answers": None}
    compiles = False

    def __init__(self, parts: TeacherParts, seed: int, samples: Samples) -> None:
        super().__init__(parts, seed)
        if not parts.teacher.reads_new_rows:
            raise UserError(
                f"module={self.option()} asks the teacher about texts that the student writes, which this one does not "
                "read, as a member that is stored or has another tokenizer than the student: set teacher=live, with a "
                "model that has the student's tokenizer"
            )
        if samples.mix and "teacher" not in parts.teacher.models:
            raise UserError(
                f"module.samples.mix={samples.mix} draws from the student and the model of one teacher together: set "
                "teacher=live, or module.samples.mix=0"
            )
        self.samples = samples

    @classmethod
    def accept_data(cls, data: Data) -> None:
        refuse_packs(data, cls.option())

    @classmethod
    def accept(cls, teacher: type[Teacher], task: Task, loss: Objective) -> None:
        option = cls.option()
        if not isinstance(task, GenerativeTask):
            raise UserError(
                f"module={option} learns from texts that the student writes, and models of task={task.option()} write "
                "none: choose task=causal_lm, or module=distill"
            )
        if not loss.needs_teacher:
            raise UserError(
                f"module={option} asks the teacher about the student's texts, but no term of this loss has a teacher: "
                "choose a loss with one, such as loss=jsd, and loss.alpha above 0, or module=distill"
            )
        if not teacher.reads_new_rows:
            raise UserError(
                f"module={option} asks the teacher about texts that the student writes, and {teacher.__name__} only "
                f"has its outputs on the rows of the data: set teacher={teacher.running}"
            )
        if not isinstance(loss.balance, Plain):
            raise UserError(
                f"loss/balance weighs the parts of every step, but module={option} has no labels for the student's "
                "texts: set loss/balance=none"
            )

    def own(self, batch: Batch, batch_idx: int, then: Callable[[Batch], Batch] = lambda made: made) -> Batch:
        """The prompts of a batch with answers of the student.

        Args:
            then: changes answers that were drawn, before they are kept for later steps.
        """
        micro = batch_idx % self.trainer.accumulate_grad_batches
        teacher = self.teacher.models["teacher"].to(batch.device) if self.samples.mix else None
        return self.samples.of(self.writing, self.model, batch, self.global_step, micro, then, teacher)

    @property
    def writing(self) -> GenerativeTask:
        """The task."""
        assert isinstance(self.task, GenerativeTask)
        return self.task

    def described(self, batch: Batch) -> dict[str, Tensor | float]:
        """The mean number of tokens of the answers of a batch, and the share of them that end by themselves."""
        answers = self.writing.reference(batch)
        return {
            "train/answers/tokens": answers.lengths.float().mean(),
            "train/answers/ended": answers.ended(self.writing.ends).float().mean(),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if any(states := gathered(self.samples.state())):
            checkpoint["samples"] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        states = checkpoint.get("samples", [])
        if len(states) == self.trainer.world_size:  # with another number of processes, answers are drawn anew
            self.samples.restore(states[self.global_rank])


def refuse_packs(data: Data, option: str) -> None:
    """Refuse rows that are made of several texts, for a rule of training rows whose prompts are answered."""
    if data.packs:
        raise UserError(
            f"module={option} learns from answers to the prompt of each training row, and datamodule.pack=true joins "
            "several to a row: set datamodule.pack=false"
        )


def gathered(state: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """What each process keeps, by its number; every process calls it."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return [state]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    all_gather_object(states, state)
    return states
