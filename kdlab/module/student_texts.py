"""What rules that learn from the student's texts share: what they refuse, what they log, what they keep."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.distributed import all_gather_object

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.loss.balance.none import Plain
from kdlab.loss.objective import Objective
from kdlab.task.base import Task
from kdlab.task.generative import GenerativeTask
from kdlab.teacher.base import Teacher


def accept_student_texts(option: str, teacher: type[Teacher], task: Task, loss: Objective) -> None:
    """Check that there is a task whose models write, and a teacher that reads what they wrote.

    Args:
        option: the name of the rule.
        teacher: the class of the teacher.

    Raises:
        UserError: there is not.
    """
    if not isinstance(task, GenerativeTask):
        raise UserError(
            f"module={option} learns from texts that the student writes, and models of task={task.kind} write none: "
            "choose task=causal_lm, or module=distill"
        )
    if not loss.needs_teacher:
        raise UserError(
            f"module={option} asks the teacher about the student's texts, but no term of this loss has a teacher: "
            "choose a loss with one, such as loss=jsd, and loss.alpha above 0, or module=distill"
        )
    if not teacher.reads_new_rows:
        raise UserError(
            f"module={option} asks the teacher about texts that the student writes, and {teacher.__name__} only has "
            "its outputs on the rows of the data: set teacher=live"
        )
    if not isinstance(loss.balance, Plain):
        raise UserError(
            f"loss/balance weighs the parts of every step, but module={option} has no labels in the steps on the "
            "student's texts: set loss/balance=none"
        )


def described(task: GenerativeTask, batch: Batch) -> dict[str, Tensor | float]:
    """The mean number of tokens of the answers of a batch, and the share of them that end by themselves."""
    answers = task.reference(batch)
    return {
        "train/answers/tokens": answers.lengths.float().mean(),
        "train/answers/ended": answers.ended(task.ends).float().mean(),
    }


def gathered(state: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """What each process keeps, by its number; every process calls it."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return [state]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    all_gather_object(states, state)
    return states


def own_state(states: list[list[dict[str, Any]]], trainer: Trainer) -> list[dict[str, Any]]:
    """The part of this process; nothing where the run goes on with another number of them."""
    return states[trainer.global_rank] if len(states) == trainer.world_size else []
