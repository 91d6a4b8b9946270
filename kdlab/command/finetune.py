"""`kdlab finetune`: one model on one task."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from kdlab.command import build
from kdlab.command.job import Job, current
from kdlab.command.train import Prepared, carry_out, shared


def main(cfg: DictConfig) -> float | None:
    return run(current("finetune", cfg))


def run(job: Job) -> float | None:
    """Do the job, or return its value where it is done."""
    return carry_out(job, prepare)


def prepare(job: Job, data: Any) -> Prepared:
    task = build.task(job.cfg, data)
    model = build.model(job.cfg.model, task, data)
    return Prepared(build.make(job.cfg.module, model=model, **shared(job, data, task)))
