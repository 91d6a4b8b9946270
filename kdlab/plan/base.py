"""The plan of a run: everything that it trains, built from its config, and nothing of it begun.

Each command that trains has a file here, with a function ``prepare(job, data, train, on_teachers) -> Plan``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from kdlab.artifact.trained import Trained
from kdlab.config import build, instantiate
from kdlab.config.job import Job
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.module.base import TrainingRule
from kdlab.transform.sequence import Transforms

ROOM = "kdlab.plan"


@dataclass
class Plan:
    """Everything that a run trains, built and not begun.

    Attributes:
        learner: the training rule, with the models that it trains.
        metrics: facts about its teachers.
        teachers: the teachers by their key in the config.
        start: the trained model whose weights the student begins with; None: it begins with its own.
        transforms: the transforms of the model that learns.
        data: the rows that it learns from, where a teacher has written into them; None: those of the command.
    """

    learner: TrainingRule
    metrics: dict[str, float] = field(default_factory=dict)
    teachers: dict[str, Trained] = field(default_factory=dict)
    start: Trained | None = None
    transforms: Transforms = field(default_factory=Transforms)
    data: Data | None = None


Train = Callable[[Job], object]
OnTeachers = Callable[[Mapping[str, Trained]], None]
Prepare = Callable[..., Plan]  # (job, data, train, on_teachers)


def refuse(job: Job) -> None:
    """Train nothing that is missing.

    Raises:
        UserError: always; it names the run.
    """
    raise UserError(f"run {job.folder} is not finished: run its command first")


def alone(found: Mapping[str, Trained]) -> None:
    """Do nothing once the teachers are trained: the default of ``on_teachers``."""


def planner(command: str) -> Prepare:
    """The function that prepares the runs of a command that trains."""
    prepare: Prepare = import_module(f"{ROOM}.{command}").prepare
    return prepare


def penalised(job: Job, plan: Plan) -> Plan:
    """The same, with its transforms, and the penalty on the weights, which are still those of the start."""
    plan.learner.transforms = plan.transforms
    plan.learner.penalty = instantiate.make(job.cfg.penalty, model=plan.learner.model)
    return plan


def shared(job: Job, data: Data, task: Any) -> Mapping[str, Any]:
    """The parts of every training rule, besides its model."""
    cfg = job.cfg
    evaluators = build.evaluators(cfg.metric, task, data.labels)
    evaluators.chosen().setup(task, data)  # what they lack is known before a teacher is trained
    return {
        "task": task,
        "optimizer": build.optimizer(cfg.optimizer),
        "scheduler": build.scheduler(cfg.scheduler),
        "freeze": instantiate.make(cfg.freeze),
        "metric": evaluators,
    }
