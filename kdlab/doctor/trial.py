"""A job tried on a few rows, with a stand-in for each teacher that is not trained yet."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from kdlab.artifact.chain import asks_a_teacher
from kdlab.artifact.find import teacher_nodes
from kdlab.config import build, instantiate
from kdlab.config.job import Job
from kdlab.config.node import as_plain
from kdlab.config.stage import earlier
from kdlab.datamodule.data import Data
from kdlab.doctor import cost
from kdlab.doctor.dry_run import ROWS, Trace, data_trace, dry_run, few, rows_trace, written
from kdlab.doctor.untrained import UntrainedModels
from kdlab.plan import distill
from kdlab.plan.base import Plan, planner
from kdlab.plan.length import epochs

ALONE = {  # of the trainer: where and with what is watched, and what a trial sets itself
    "accelerator": "cpu", "devices": 1, "strategy": "auto", "logger": False, "enable_progress_bar": False,
    "enable_model_summary": False, "enable_checkpointing": False, "limit_train_batches": 1.0, "limit_val_batches": 0,
    "limit_test_batches": 0, "num_sanity_val_steps": 0, "val_check_interval": 1.0, "check_val_every_n_epoch": 1,
    "log_every_n_steps": 1, "profiler": None, "overfit_batches": 0.0, "fast_dev_run": False, "num_nodes": 1,
}  # fmt: skip
LENGTH = ("max_epochs", "max_steps", "limit_train_batches", "accumulate_grad_batches", "_target_")


class Trials:
    """Learners as their commands make them; what distillations with the same teacher share is made once.

    Args:
        models: the data, and models that stand in for teachers.
        folder: small stores are kept there meanwhile.
    """

    def __init__(self, models: UntrainedModels, folder: Path) -> None:
        self.models, self.folder = models, folder
        self.teaching: dict[str, distill.Teaching] = {}

    def run(self, job: Job) -> Trace:
        """What a few steps of the job do, on a few rows."""
        data = self.models.data(job)
        small = few(data, max(ROWS, 2 * job.cfg.trainer.accumulate_grad_batches))
        prepared = self.prepared(job, small, self.folder)
        seen = dry_run(prepared.learner, prepared.data or small, partial(trainer, job))
        plain: Any = as_plain(job.cfg)
        plain["trainer"]["max_epochs"] = epochs(job.cfg.trainer, data)
        kept = {key: value for key, value in plain["trainer"].items() if key not in LENGTH}
        batches = len(data.train_dataloader()) * job.cfg.trainer.accumulate_grad_batches
        teachers = {place: trained.id for place, trained in prepared.teachers.items()}
        teaching = [teachers, job.cfg.teacher._target_] if asks_a_teacher(job) else []
        return {
            "the data": data_trace(data),
            "the teacher": written(teaching),
            "the first weights": written([job.cfg.get("start"), [stage.folder.name for stage in earlier(job)]]),
            **seen,
            "the trainer": written([kept, cost.planned(batches, plain["trainer"])]),
            "what is measured": written([plain["metric"], plain["callback"]]),
        }

    def prepared(self, job: Job, data: Data, outputs: Path) -> Plan:
        """The learner as its command makes it, for this data, with a stand-in for a teacher that is not trained."""
        cfg = job.cfg.copy()
        cfg.outputs = str(outputs)
        if (epochs(cfg.trainer, data) or -1) > 0:
            cfg.trainer.max_epochs = cost.MOST  # no trial has more: a teacher that stores each epoch has no more to do
        if "stages" in cfg:
            cfg.start, cfg.stages = None, {"earlier": []}
        if "teacher" in cfg and asks_a_teacher(job):
            for (place, node), own in zip(
                teacher_nodes(cfg.teacher).items(), teacher_nodes(job.cfg.teacher).values(), strict=True
            ):
                node.run = str(self.models.taught(job, place, own))
                if "generations" in node:
                    node.generations = 0
        torch.manual_seed(cfg.seed)
        probe = Job(job.command, outputs / job.command / job.folder.name, cfg, job.choices, job.overrides)
        if job.command != "distill":
            return planner(job.command)(probe, data)
        key = _teaching_key(probe, data)
        if (base := self.teaching.get(key)) is not None:
            return distill.varied(probe, data, base)
        prepared = distill.prepare(probe, data)
        if (base := distill.Teaching.of(prepared)) is not None:
            self.teaching[key] = base
        return prepared


def _teaching_key(job: Job, data: Data) -> str:
    """Equal where two distillations have the same teacher for the same rows; values of the loss do not matter."""
    cfg, loss = job.cfg, instantiate.make(job.cfg.loss)
    parts = [cfg[name] for name in ("teacher", "task")] + [cfg.datamodule.get("augment"), cfg.module.get("writer")]
    plain = [as_plain(one) for one in parts]
    reads = [loss.needs_teacher, loss.maps_layers, sorted(loss.taps["teacher"]), build.needs_teacher(cfg.student)]
    how = [cfg.outputs, cfg.allow_overlap, str(cfg.trainer.precision), epochs(cfg.trainer, data)]
    return written([*plain, *reads, *how, rows_trace(data)])


def trainer(job: Job, **given: Any) -> Trainer:
    """The config's trainer, on one CPU and without a trace on disk."""
    node = job.cfg.trainer
    half = {"precision": "bf16-mixed"} if str(node.get("precision", "")).startswith("16") else {}
    replaced = {name: value for name, value in ALONE.items() if name in node or name not in ("strategy", "num_nodes")}
    return instantiate.make(node, **(replaced | half | given))
