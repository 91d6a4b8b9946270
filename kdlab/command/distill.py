"""`kdlab distill`: a teacher and a student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from kdlab.command import build, finetune
from kdlab.command.job import Job, current
from kdlab.command.teacher import Trained, check, resolve
from kdlab.command.train import Prepared, carry_out, shared
from kdlab.loss.objective import Objective
from kdlab.module.finetune import Finetune


def main(cfg: DictConfig) -> float | None:
    return run(current("distill", cfg))


def run(job: Job) -> float | None:
    """Do the job, or return its value where it is done."""
    return carry_out(job, prepare)


def prepare(job: Job, data: Any) -> Prepared:
    cfg = job.cfg
    task = build.task(cfg, data)
    loss: Objective = build.make(cfg.loss)
    loss.check(data.multi_label)
    trained: Trained | None = None

    def teacher_model() -> nn.Module:
        nonlocal trained
        trained = trained or find_teacher(job, data)
        return trained.model

    if loss.needs_teacher:
        teacher_model()
    torch.manual_seed(cfg.seed)  # whether the teacher was trained or found, the student starts from the same weights
    student = build.model(cfg.student, task, data, teacher=teacher_model)
    if not loss.needs_teacher:
        return Prepared(Finetune(model=student, seed=cfg.seed, **shared(job, data, task)), teacher=trained)
    teacher = build.make(
        how(cfg.teacher), model=teacher_model(), task=task, data=data, taps=loss.taps["teacher"],
        store=Path(cfg.outputs) / "store",
    )  # fmt: skip
    probe = task.read(student.eval(), next(iter(data.every_row(256))), loss.taps["student"])
    loss.connect({name: tap.shape[-1] for name, tap in probe.taps.items()}, teacher.widths())
    learner = build.make(cfg.module, model=student, loss=loss, teacher=teacher, **shared(job, data, task))
    metrics = {f"teacher/{name}": value for name, value in trained.metrics.items() if name.startswith(("model/", "perf/latency"))}
    return Prepared(learner, metrics | {"perf/teacher_seconds": teacher.seconds}, trained)


def find_teacher(job: Job, data: Any) -> Trained:
    """The teacher that the config names, trained where it is missing, and fit for this data."""
    trained = resolve(job, finetune.run)
    check(trained, data)
    return trained


def how(node: DictConfig) -> DictConfig:
    """How the teacher is read: its node without the keys that say which teacher it is."""
    return OmegaConf.masked_copy(node, [key for key in node if key not in ("run", "recipe", "model")])
