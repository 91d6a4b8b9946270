"""From config nodes to objects: the only place that calls Hydra's ``instantiate``."""

from __future__ import annotations

import inspect
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from kdlab.error import UserError
from kdlab.task.base import Task


def make(node: DictConfig, **given: Any) -> Any:
    """Instantiate a config node; a user's mistake below it comes out as itself."""
    missing = sorted(OmegaConf.missing_keys(node) - {node._get_full_key(name) for name in given})
    if missing:
        raise UserError(f"{missing[0]} has no value; give it one on the command line: {missing[0]}=VALUE")
    try:
        target = instantiate(node, _partial_=True)  # called below: Hydra would turn given dict-like objects into config
        return target if node.get("_partial_") and not given else target(**given)
    except InstantiationException as problem:
        if isinstance(problem.__cause__, UserError):
            raise problem.__cause__ from None
        raise UserError(" ".join(str(problem).split())) from problem
    except (TypeError, ValueError) as problem:
        raise UserError(f"{node._get_full_key(None) or 'config'} ({node._target_}): {problem}") from problem


def data(cfg: DictConfig) -> Any:
    """The datamodule, set up: labels, tokenizer and splits are known."""
    module = make(cfg.datamodule)
    module.prepare_data()
    module.setup("fit")
    return module


def task(cfg: DictConfig, data: Any) -> Task:
    """The task, which has learned the label names."""
    task = make(cfg.task)
    task.prepare(data.labels, data.label_counts)
    return task


def model(node: DictConfig, task: Task, data: Any, teacher: nn.Module | None = None) -> nn.Module:
    """A model with the task's head; a factory that has an argument named ``teacher`` is given the teacher's model."""
    given: dict[str, Any] = {"labels": list(data.labels), "tokenizer": data.tokenizer}
    if needs_teacher(node):
        if teacher is None:
            raise UserError(
                f"{node._target_} starts from a teacher, which only `kdlab distill` has; choose another model"
            )
        given["teacher"] = teacher
    return task.attach(make(node, **given))


def needs_teacher(node: DictConfig) -> bool:
    """Whether a model's factory has an argument named ``teacher``."""
    try:
        return "teacher" in inspect.signature(get_object(node._target_)).parameters
    except Exception as problem:
        raise UserError(f"model target '{node._target_}' cannot be imported: {problem}") from problem


def several(nodes: DictConfig | None, **given: Any) -> list[Any]:
    """Every object of a mapping name -> node (callbacks, loggers), each given the arguments that its signature has."""
    objects = []
    for node in (nodes or {}).values():
        if node is None:
            continue
        accepted = inspect.signature(get_object(node._target_)).parameters
        objects.append(make(node, **{name: value for name, value in given.items() if name in accepted}))
    return objects
