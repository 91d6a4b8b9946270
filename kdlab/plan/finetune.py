"""The plan of `kdlab finetune`: one model on one task."""

from __future__ import annotations

from kdlab.config import build, instantiate
from kdlab.config.job import Job
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.module.parts import Parts
from kdlab.plan.base import OnTeachers, Plan, Train, alone, penalised, refuse, shared
from kdlab.plan.stage import begin


def prepare(job: Job, data: Data, train: Train = refuse, on_teachers: OnTeachers = alone) -> Plan:
    """Build what the run trains.

    Args:
        data: the datamodule after ``setup``.
        train: trains a run that this one needs and that is missing.
        on_teachers: is called with the teachers once they are there.
    """
    learns = job.cfg.trainer.get("max_steps") != 0
    if learns and instantiate.make(job.cfg.task).uses_labels and not any(data.label_counts):
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
    settings = shared(job, data, task)
    settings["metric"].try_on(task, data, model)
    start = begin(job, model, data, train)
    learner = instantiate.make(job.cfg.module, parts=Parts(model, **settings))
    return penalised(job, Plan(learner, start=start, transforms=transforms))
