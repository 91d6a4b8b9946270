"""The data of a job, with the labels that trained models think worth having, in the order that they think best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdlab.artifact.assemble import check, read_by
from kdlab.artifact.trained import named
from kdlab.config import build, instantiate
from kdlab.config.node import Node
from kdlab.datamodule.target import NUMBER
from kdlab.error import UserError
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher
from kdlab.teacher.cached import Cached


def data(cfg: Node) -> Any:
    """The datamodule, set up; the models that its selection and its curriculum name were asked, once for all runs."""
    module = build.data(cfg)
    by_model = module.curriculum is not None and (module.curriculum.runs or module.curriculum.asks_teacher)
    if (module.select is not None or by_model) and not instantiate.make(cfg.task).uses_labels:
        option = "select" if module.select is not None else "curriculum=teacher"
        raise UserError(
            f"datamodule/{option} asks classifiers about rows, but the task is to predict tokens: leave it out"
            + (", or choose datamodule/curriculum=length" if module.select is None else "")
        )
    apart = module.target.kind == NUMBER or module.target.unit != "row"
    if apart and (module.select is not None or by_model):
        raise UserError(
            "datamodule/select and a curriculum by a model ask how sure classifiers of rows are, and the task predicts "
            "numbers or tags: leave them out (datamodule.budget alone draws rows), or choose "
            "datamodule/curriculum=length"
        )
    if module.select is not None:
        module.choose(module.select.score(_logits_of(cfg, module, module.select.runs)))
    if module.curriculum is not None and module.curriculum.runs:
        module.grade(_logits_of(cfg, module, module.curriculum.runs)[0])
    return module


def _logits_of(cfg: Node, module: Any, runs: Sequence[str]) -> list[np.ndarray]:
    """The logits ``[M, C]`` of each of the rows that are used, by each of the models."""
    task, outputs = build.task(cfg, module), Path(cfg.outputs)
    logits = []
    for run in runs:
        trained = named(run, outputs)
        check(trained, module, task)
        cached = Cached(trained, task, read_by(trained, module, ()), (), outputs / "store")
        logits.append(cached.store.gather("logits", module.used, 0))
    return logits


def taught(module: Any, task: Task, teacher: Teacher) -> None:
    """Ask the run's own teacher what is difficult, where the curriculum needs it."""
    if module.curriculum is None or not module.curriculum.asks_teacher:
        return
    logits = torch.zeros(len(module.values), len(module.labels))
    with torch.no_grad():
        for batch in module.every_row():
            logits[batch.row] = teacher.read(task, batch).logits.float().cpu()
    module.grade(logits[module.used].numpy())
