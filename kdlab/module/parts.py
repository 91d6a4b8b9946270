"""What training rules are made of, built from the config groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from kdlab.freeze.base import Freeze
from kdlab.loss.objective import Objective
from kdlab.metric.evaluators import Evaluators
from kdlab.schedule.base import Schedule
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher


@dataclass(frozen=True)
class Parts:
    """The parts of a rule that trains one model.

    Attributes:
        model: learns.
        task: reads it, and has the supervised loss.
        optimizer: makes the optimizer of its parameter groups.
        scheduler: the factor of the learning rate.
        freeze: which blocks learn, and how fast.
        metric: what is measured in validation and on the test.
    """

    model: nn.Module
    task: Task
    optimizer: Callable[..., torch.optim.Optimizer]
    scheduler: Schedule
    freeze: Freeze
    metric: Evaluators


@dataclass(frozen=True)
class TeacherParts(Parts):
    """The parts of a rule with a teacher.

    Attributes:
        teacher: its outputs are what the student learns from.
        loss: compares both.
    """

    teacher: Teacher
    loss: Objective
