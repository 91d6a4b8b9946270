"""From a job to a finished run directory: claim, begin or resume, fit, test, save, done."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlab.artifact import overlap, select
from kdlab.artifact.find import unchanged
from kdlab.artifact.prune import remove
from kdlab.artifact.run import Run, claim, enroll
from kdlab.artifact.trained import Trained
from kdlab.config import instantiate, monitor
from kdlab.config.direction import installed
from kdlab.config.job import Job
from kdlab.config.node import Node
from kdlab.datamodule.data import Data
from kdlab.direction import COSTS, PRIMARY
from kdlab.error import UserError
from kdlab.file import sha256, wanted, write_json
from kdlab.fit import slot
from kdlab.fit.display import Voice, telling
from kdlab.fit.rank import Companions
from kdlab.fit.resume import RESUMED, read_checkpoint
from kdlab.fit.train import fit
from kdlab.logger.base import Journal, RunInfo, Source, opened
from kdlab.logger.history import FILE as HISTORY
from kdlab.metric.confusion import row_count
from kdlab.metric.majority import NAME as MAJORITY
from kdlab.metric.majority import majority
from kdlab.module.base import TrainingRule
from kdlab.outcome import Classes
from kdlab.plan.base import planner
from kdlab.transform.save import save_finished

log = logging.getLogger(__name__)

NEARLY_ALL = 0.99  # of a split's rows


def run_job(job: Job) -> float | None:
    """Do a job once: a finished run is returned as it is, an unfinished one goes on.

    Returns:
        The best validation metric, which is what a sweep optimises.
    """
    cfg, alone = job.cfg, False
    try:
        with claim(job.folder, rerun=cfg.rerun) as run, telling(job) as voice:
            alone = not voice.quiet
            if job.sweep:
                enroll(job.folder, job.sweep | {"group": job.group})
            unchanged(job, job.folder)
            if run.done:
                voice.already(run)
                return run.done["value"]
            if cfg.cluster.threads:
                torch.set_num_threads(cfg.cluster.threads)
            run.begin(job.config, job.overrides, job.sweep and job.sweep | {"group": job.group})
            voice.begin(run)
            known = _train(job, run, voice)
    except UserError:
        begun = (job.folder / HISTORY).exists()
        if alone and not begun and not wanted(job.folder / ".lock"):  # nothing was trained: there is no run to keep
            remove(job.folder)
        raise
    voice.finished(run, known)
    return run.done["value"] if run.done else None


def _train(job: Job, run: Run, voice: Voice) -> dict[str, float]:
    cfg, start = job.cfg, time.perf_counter()
    monitor.check(cfg)
    instantiate.accelerated(cfg.trainer)
    torch.manual_seed(cfg.seed)
    data = select.data(cfg)
    voice.data(data)
    # printed before a teacher is trained
    data.check_steps(_devices(cfg.trainer), cfg.trainer.get("accumulate_grad_batches", 1))
    overlap.write(run.folder, data, overlap.learns(cfg))
    with Companions(cfg.trainer, run.folder) as others:

        def taught(found: Mapping[str, Trained]) -> None:
            _write_teachers(run, found)
            voice.teachers(found)
            others.start()

        plan = planner(job.command)(job, data, run_job, taught)
        if plan.start is not None:
            write_json(run.folder / "start.json", {"id": plan.start.id, "folder": str(plan.start.folder)})
        learner = plan.learner
        voice.learner(learner, plan.start)
        loggers = {name: partial(instantiate.make, node) for name, node in (cfg.logger or {}).items()}
        with opened(info(job, run, plan.teachers, plan.start), loggers) as journal:
            _log_trainable(learner, journal)
            start += slot.wait()
            measured, metric, keeper = fit(job, run, learner, plan.data or data, journal, others, voice)
            directions, named = _directions(learner), _named(learner)
            learner.model = save_finished(learner.transforms, learner.model, data.processor, run.folder / "model")
            if learner.task.uses_labels:
                write_json(run.folder / "model" / "labels.json", list(data.labels))
            known = measured | plan.metrics | _cost(learner, data) | _majority(learner, data)
            known |= _write_test(run, learner, data)
            journal.summary(known)
            if warning := one_class(learner.test_confusion, data.labels):
                print(f"warning: {warning}", file=sys.stderr, flush=True)
            weights = run.folder / "model" / "model.safetensors"
            journal.produce(Source(run.id, weights, sha256(weights)))
    if keeper is not None:
        keeper.finish()
    run.finish(known.get(f"best/{metric}"), metric, time.perf_counter() - start, known, directions, named)
    return known


def _directions(learner: TrainingRule) -> dict[str, bool | None]:
    """Whether more is better of everything that the run may have measured, as the owner of each declares it."""
    found = dict(installed())
    for callback in learner.trainer.callbacks:  # type: ignore[attr-defined]
        found |= getattr(callback, "higher_is_better", {})
    return found | {name: more for name, more in learner.directions.items() if name != PRIMARY}


def _named(learner: TrainingRule) -> dict[str, Any]:
    """What the evaluators and callbacks declare of their metrics beside the direction."""
    named: dict[str, Any] = dict(learner.evaluators["test"].named)
    for callback in learner.trainer.callbacks:  # type: ignore[attr-defined]
        named[COSTS] = named[COSTS] | getattr(callback, "costs", {})
    return named


def one_class(counts: Tensor | None, labels: Sequence[str]) -> str:
    """A sentence about a model that predicts one class for nearly all rows of the test; "" about any other.

    Args:
        counts: ``[C, C]``, rows by their label and by what was predicted; None or ``[C, 2, 2]``: no warning.

    Example:
        >>> one_class(torch.tensor([[5, 5], [0, 90]]), ["no", "yes"]), one_class(None, [])
        ('', '')
    """
    if counts is None or counts.ndim != 2 or not counts.sum():
        return ""
    predicted, have = counts.sum(0) / counts.sum(), counts.sum(1) / counts.sum()
    first = int(predicted.argmax())
    if not predicted[first] > NEARLY_ALL >= have[first]:
        return ""
    return (
        f"the model predicts '{labels[first]}' for {predicted[first]:.1%} of the test rows, of which {have[first]:.1%} "
        "have that label, so it has not learned to distinguish the classes: train longer (trainer.max_epochs), try "
        "another optimizer.lr, or another model"
    )


def _devices(node: Node) -> int:
    """The number of devices in a trainer's config; 1 where the machine decides."""
    devices = node.get("devices", 1)
    return devices * node.get("num_nodes", 1) if isinstance(devices, int) and devices > 0 else 1


def _write_teachers(run: Run, found: Mapping[str, Trained]) -> None:
    """Write the folders and fingerprints of the run's teachers into teacher.json."""
    teachers: dict[str, Any] = {"places": {place: str(one.folder) for place, one in found.items()}}
    teachers["weights"] = {place: one.fingerprint for place, one in found.items()}
    if (single := found.get("teacher")) is not None:
        teachers |= {"id": single.id, "folder": str(single.folder)}
    write_json(run.folder / "teacher.json", teachers)


def _log_trainable(learner: TrainingRule, journal: Journal) -> None:
    """Log the blocks that learn and their learning rates, to the run's log and to the loggers."""
    rows = learner.table()
    columns = list(rows[0])
    for row in rows:
        log.info("trainable: %s", ", ".join(f"{name} {value}" for name, value in row.items()))
    journal.table("model/trainable", columns, [[row[name] for name in columns] for row in rows])


def _cost(learner: TrainingRule, data: Data) -> dict[str, float]:
    """What the evaluators measure of the trained model as such, on the device that it was trained on."""
    device = learner.trainer.strategy.root_device
    model = learner.model.to(device).eval()
    try:
        return learner.trained() | learner.evaluators["test"].examine(model, data)
    finally:
        model.cpu()


def _majority(learner: TrainingRule, data: Data) -> dict[str, float]:
    """The accuracy of always giving the commonest class, beside the model's own."""
    if not learner.task.uses_labels or not isinstance(learner.task.outcome, Classes):
        return {}
    target, splits = data.target, data.splits
    found = {name: majority(target.flat(splits["train"]), target.flat(splits[name])) for name in ("val", "test")}
    return {f"{name}/{MAJORITY}": value for name, value in found.items() if value is not None}


def _write_test(run: Run, learner: TrainingRule, data: Data) -> dict[str, float]:
    """Write the test rows' hash and the confusion of labels and predictions into test.json, for comparisons."""
    results: dict[str, Any] = {"set": data.test_set}
    found = {"test/rows": float(len(data.splits["test"]))}
    counts = learner.test_confusion
    if counts is not None and counts.sum():
        if learner.task.unit == "row":
            found = {"test/rows": float(row_count(counts))}
        if counts.ndim > 1:
            results |= {"labels": list(data.labels), "confusion": counts.tolist()}
    write_json(run.folder / "test.json", results)
    return found


def info(job: Job, run: Run, teachers: Mapping[str, Trained], start: Trained | None = None) -> RunInfo:
    config, sources = job.config, {}
    if start is not None:
        config["start_run"] = {"id": start.id, "sha256": sha256(start.weights / "model.safetensors")}
    for place, teacher in teachers.items():
        weights = teacher.weights / "model.safetensors"
        sources[place] = Source(teacher.id, weights, sha256(weights))
        config[f"{place.replace('.', '_')}_run"] = {"id": teacher.id, "sha256": sources[place].sha256}
    resumed = 0 if run.last_checkpoint is None else read_checkpoint(run.last_checkpoint, RESUMED)["global_step"]
    return RunInfo(
        id=run.id, folder=run.folder, outputs=Path(job.cfg.outputs), command=job.command, group=job.group,
        name=job.name or run.id, tags=job.tags, config=config, resumed_step=resumed,
        teacher=next(iter(sources.values()), None),
    )  # fmt: skip
