"""`kdlab distill`: a teacher and a student."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from kdlab.check import reading
from kdlab.command import build, finetune
from kdlab.command.job import Job, current
from kdlab.command.teacher import Trained, check, resolve
from kdlab.command.train import Prepared, carry_out, shared
from kdlab.loss.objective import Objective
from kdlab.loss.term import Side
from kdlab.model.tap import classifier, depth, heads
from kdlab.module.finetune import Finetune
from kdlab.module.teacher_free import TeacherFree
from kdlab.precision import computing


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
    settings = shared(job, data, task)
    with reading(loss, "teacher"):
        build.teacher_kind(cfg.teacher).accept(loss.taps["teacher"])
    store = Path(cfg.outputs) / "store"
    rows = next(iter(data.every_row(256)))
    early = build.needs_teacher(cfg.student) or loss.maps_layers
    trained = find_teacher(job, data) if early else None
    torch.manual_seed(cfg.seed)
    student = build.model(cfg.student, task, data, teacher=None if trained is None else trained.model)
    if trained is not None:
        loss.place(depth(student) or 0, trained.depth)
    taps = loss.taps
    with reading(loss, "student"), torch.no_grad(), computing(cfg.trainer.precision):  # before a teacher is trained
        probe = task.read(student.eval(), rows, taps["student"])
    student.train()
    classes = probe.logits.shape[-1]
    widths = {name: tap.shape[-1] for name, tap in probe.taps.items()}
    own = Side(widths, depth(student) or 0, classes, heads(student), lambda: classifier(student))
    if not loss.terms:
        return Prepared(Finetune(model=student, seed=cfg.seed, **settings), teacher=trained)
    if not loss.needs_teacher:
        loss.connect(own, Side(), rows=len(data.lengths))
        return Prepared(TeacherFree(model=student, loss=loss, seed=cfg.seed, **settings), teacher=trained)
    with torch.random.fork_rng(devices=[]):  # found or trained, the teacher leaves the adapters' first weights alone
        trained = trained or find_teacher(job, data)
    with reading(loss, "teacher"), computing(cfg.trainer.precision):
        given = {"task": task, "data": data, "taps": taps["teacher"], "store": store}
        if "trained" in inspect.signature(get_object(cfg.teacher._target_)).parameters:
            teacher = build.make(how(cfg.teacher), trained=trained, **given)
        else:
            teacher = build.make(how(cfg.teacher), model=trained.model, **given)
    there = Side(teacher.widths(), trained.depth, classes, trained.heads, lambda: classifier(trained.model))
    loss.connect(own, there, rows=len(data.lengths))
    # what does not fit together is told before training
    with torch.random.fork_rng(devices=[]), torch.no_grad(), computing(cfg.trainer.precision):
        loss.eval()(task.supervised(probe, rows), probe, teacher.read(task, rows), 0.0)
    loss.train()
    learner = build.make(cfg.module, model=student, loss=loss, teacher=teacher, **settings)
    known = {name: value for name, value in trained.metrics.items() if name.startswith(("model/", "perf/latency"))}
    metrics = {f"teacher/{name}": value for name, value in known.items()}
    return Prepared(learner, metrics | {"perf/teacher_seconds": teacher.seconds}, trained)


def find_teacher(job: Job, data: Any) -> Trained:
    """The teacher that the config names, trained where it is missing, and fit for this data."""
    trained = resolve(job, finetune.run)
    check(trained, data)
    return trained


def how(node: DictConfig) -> DictConfig:
    """How the teacher is read: its node without the keys that say which teacher it is."""
    return OmegaConf.masked_copy(node, [str(key) for key in node if key not in ("run", "recipe", "model")])
