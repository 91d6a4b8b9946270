"""A training of three steps on a few rows, and the fingerprint of all that it did."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer

from kdlab.datamodule.corpus import labelled
from kdlab.datamodule.data import Data
from kdlab.module.base import TrainingRule
from kdlab.schedule.base import Schedule

STEPS = 3  # progress is then 0, a half and 1
ROWS = 12
MOMENTS = [moment / 200 for moment in range(201)]  # what depends on time is also looked at between the steps
Trace = Mapping[str, str]  # what a setting may change -> a fingerprint of it


def few(data: Data, rows: int = ROWS) -> Any:
    """The data, set up, with no more than ``rows`` training rows: half of them labelled, from everywhere in the split.

    Everything else (labels, tokens, row ids) is as it was, so a model or a teacher cannot tell.
    """
    small = copy.copy(data)
    train = data.splits["train"]
    known = train[labelled(data.codes[train])]
    chosen = np.unique(np.concatenate([_spread(known, rows // 2), _spread(train, rows)]))
    small.splits = {"train": _spread(chosen, rows), "val": _spread(data.splits["val"], 2)}
    small.splits["test"] = small.splits["val"]
    return small


def dry_run(learner: TrainingRule, data: Data, fit: Callable[..., Trainer]) -> Trace:
    """Train a little, and fingerprint the weights before it, the losses, gradients, what learned and the optimizer.

    Args:
        learner: made for ``data``.
        data: from :func:`few`.
        fit: makes the trainer of the config, given arguments that replace its own.
    """
    watch = _Watch()
    before = {name: _digest(value) for name, value in learner.model.state_dict().items()}
    trainer = fit(callbacks=[watch], max_steps=STEPS, max_epochs=-1)
    trainer.fit(learner, datamodule=data)
    groups = [
        {name: str(value) for name, value in group.items() if name not in ("params", "name")}
        | {"sizes": [parameter.numel() for parameter in group["params"]]}
        for optimizer in trainer.optimizers
        for group in optimizer.param_groups
    ]
    kinds = [type(optimizer).__name__ for optimizer in trainer.optimizers]
    depth = len(learner.blocks)
    return {
        "the student": written(before),
        "the loss": written(watch.losses),
        "a gradient": written(watch.gradients),
        "the trainable set": written([watch.learning, [learner.freezing.scales(depth, at) for at in MOMENTS]]),
        "the optimizer": written([kinds, groups, [learner.scheduler(at) for at in MOMENTS]]),
        "a schedule": written([_course(value, learner.directions) for value in learner.schedules] + watch.levels),
    }


def data_trace(data: Data) -> str:
    """A fingerprint of rows, labels, splits, tokens and the order of batches."""
    loaders: list[Any] = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    plan = loaders[0].plan(0)
    first = [_digest(np.concatenate(plan)), _digest(np.array([len(rows) for rows in plan]))]
    size = data.tokens_per_batch or data.batch_size
    return written([rows_trace(data), first, [len(loader) for loader in loaders], size])


def rows_trace(data: Data) -> str:
    """A fingerprint of rows, labels, splits and tokens, whatever the order of batches."""
    splits = {name: _digest(rows) for name, rows in data.splits.items()}
    return written([data.fingerprint, data.labels, splits, _digest(data.codes)])


def written(value: Any) -> str:
    """A short fingerprint of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


class _Watch(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.levels: list[dict[str, float]] = []
        self.gradients: list[dict[str, str]] = []
        self.learning: list[list[str]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        named = [(name, one) for name, one in pl_module.named_parameters() if one.grad is not None]
        self.gradients.append({name: _digest(one.grad) for name, one in named})
        self.learning.append([name for name, one in pl_module.named_parameters() if one.requires_grad])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.losses.append(logged.get("train/loss", 0.0))  # its parts are logged unweighted
        self.levels.append({name: value for name, value in logged.items() if name.startswith("train/schedule/")})


def _course(schedule: Schedule, directions: Mapping[str, bool | None]) -> list[Any]:
    """A schedule's values over time, and after each of some validations that bring small gains and long halts."""
    course: list[Any] = [[schedule(at) for at in MOMENTS], schedule.monitor]
    copied = copy.deepcopy(schedule)
    copied.direct(directions)
    for count in range(100 if schedule.monitor else 0):
        copied.observe({str(schedule.monitor): 0.001 * 2 ** (count // 8) * (-1) ** (count // 50)})
        course.append(copied(1.0))
    return course


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """``count`` of the rows, or all, at equal distances: files are often sorted by label."""
    return rows if len(rows) <= count else rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def _digest(values: Any) -> str:
    array = values.detach().cpu().contiguous() if isinstance(values, torch.Tensor) else values
    if isinstance(array, torch.Tensor):
        array = array.flatten().view(torch.uint8).numpy() if array.numel() else np.zeros(0, np.uint8)
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:16]
