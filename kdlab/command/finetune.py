"""`kdlab finetune`: one model on one task."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from kdlab.command import build
from kdlab.command.job import Job, current
from kdlab.command.stage import begin
from kdlab.command.train import Prepared, Tell, alone, carry_out, penalised, shared
from kdlab.error import UserError


def main(cfg: DictConfig) -> float | None:
    return run(current("finetune", cfg))


def run(job: Job) -> float | None:
    """Do the job, or return its value where it is done."""
    return carry_out(job, prepare)


def prepare(job: Job, data: Any, tell: Tell = alone) -> Prepared:
    task = build.task(job.cfg, data)
    if not any(data.label_counts) and not task.by_token:
        raise UserError("no training row has a label to learn from: raise datamodule.per_class or budget")
    model = build.tuned(job.cfg, build.model(job.cfg.model, task, data))
    start = begin(job, model, data, run)
    return penalised(job, Prepared(build.make(job.cfg.module, model=model, **shared(job, data, task)), start=start))
