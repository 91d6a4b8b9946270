"""`kdlab finetune`: one model on one task."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from kdlab.config import build
from kdlab.config.job import Job, current
from kdlab.error import UserError
from kdlab.fit.display import interrupted as interrupted
from kdlab.fit.stage import begin
from kdlab.fit.train import Prepared, Tell, alone, carry_out, penalised, shared


def main(cfg: DictConfig) -> float | None:
    return run(current("finetune", cfg))


def run(job: Job) -> float | None:
    """Do the job, or return its value where it is done."""
    return carry_out(job, prepare)


def prepare(job: Job, data: Any, tell: Tell = alone) -> Prepared:
    if build.make(job.cfg.task).uses_labels and not any(data.label_counts):
        raise UserError(
            f"{data.source}: no training row has a label to learn from; "
            + (
                "raise datamodule.per_class or budget"
                if 0 in (job.cfg.datamodule.get("per_class"), job.cfg.datamodule.get("budget"))
                else "a teacher can label them: kdlab distill teacher.run=ID loss.alpha=1, with the same datamodule"
            )
        )
    task = build.task(job.cfg, data)
    transforms = build.transforms(job.cfg)
    model = build.transformed(job.cfg, transforms, build.model(job.cfg.model, task, data), data)
    start = begin(job, model, data, run)
    learner = build.make(job.cfg.module, model=model, **shared(job, data, task))
    return penalised(job, Prepared(learner, start=start, transforms=transforms))
