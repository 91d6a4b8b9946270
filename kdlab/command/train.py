"""From a job to a finished run directory: claim, begin or resume, fit, test, save, done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from kdlab.command import build
from kdlab.command.job import Job
from kdlab.error import UserError
from kdlab.logger.base import RunInfo
from kdlab.logger.history import History
from kdlab.metric.cost import latency, parameters
from kdlab.model.save import save, size_bytes
from kdlab.module.base import Learner
from kdlab.run import Run, claim, write_json

log = logging.getLogger(__name__)
METRIC = "val/accuracy"  # what selects the best checkpoint and what a sweep optimises


@dataclass
class Prepared:
    """What a command adds to a run: the learner, and what is known of its teacher."""

    learner: Learner
    metrics: dict[str, float] = field(default_factory=dict)
    teacher: Any = None


def carry_out(job: Job, prepare: Callable[[Job, Any], Prepared]) -> float | None:
    """Do a job once: a finished run is returned as it is, an unfinished one goes on.

    Returns:
        The best validation metric, which is what a sweep optimises.
    """
    cfg = job.cfg
    with claim(job.folder, rerun=cfg.rerun) as run:
        if job.sweep:
            write_json(job.folder / "sweep.json", job.sweep | {"group": job.group})
        if run.done:
            print(f"{run.id} is finished: {run.done['metric']} {run.done['value']} (rerun=true does it again)", flush=True)
            return run.done["value"]
        if cfg.cluster.threads:
            torch.set_num_threads(cfg.cluster.threads)
        run.begin(job.config, job.overrides, job.sweep and job.sweep | {"group": job.group})
        return _train(job, run, prepare)


def _train(job: Job, run: Run, prepare: Callable[[Job, Any], Prepared]) -> float | None:
    cfg, start = job.cfg, time.perf_counter()
    torch.manual_seed(cfg.seed)
    data = build.data(cfg)
    prepared = prepare(job, data)
    learner = prepared.learner
    resumed = _resumed_step(run)
    info = _info(job, run, resumed, prepared.teacher)
    with ExitStack() as stack:
        loggers = [History(run.folder, resumed_step=resumed)]
        for logger in build.several(cfg.logger, info=info):
            loggers.append(stack.enter_context(logger) if hasattr(logger, "__enter__") else logger)
        callbacks = build.several(cfg.callback, folder=run.folder)
        trainer: Trainer = build.make(
            cfg.trainer, callbacks=callbacks, logger=loggers, default_root_dir=str(run.folder),
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=True,
        )  # fmt: skip
        for row in learner.table():
            log.info("%s", row)
        trainer.fit(learner, datamodule=data, ckpt_path=run.last_checkpoint, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        value = _load_best(run, learner)
        metrics = {name: float(number) for name, number in trainer.callback_metrics.items() if name.startswith("perf/")}
        metrics |= {name: float(number) for name, number in trainer.test(learner, datamodule=data, verbose=False)[0].items()}
        save(learner.model, data.tokenizer, run.folder / "model")
        write_json(run.folder / "model" / "labels.json", list(data.labels))
        metrics |= prepared.metrics | _cost(run, learner, data)
        if value is not None:
            metrics[f"best/{METRIC}"] = value
        for logger in loggers:
            logger.log_metrics({name: number for name, number in metrics.items() if not name.startswith("test/")})
            logger.finalize("success")
    run.finish(value, METRIC, time.perf_counter() - start, metrics)
    return value


def _resumed_step(run: Run) -> int | None:
    if run.last_checkpoint is None:
        return None
    try:
        return int(torch.load(run.last_checkpoint, map_location="cpu", weights_only=True)["global_step"])
    except Exception as problem:
        raise UserError(
            f"checkpoint {run.last_checkpoint} cannot be read ({type(problem).__name__}); delete it to train from the start, or use rerun=true"
        ) from problem


def _load_best(run: Run, learner: Learner) -> float | None:
    """Put the best checkpoint's weights into the learner; without validation, the last weights stay."""
    best = run.folder / "checkpoints" / "best.ckpt"
    if not best.exists():
        return None
    state = torch.load(best, map_location="cpu", weights_only=True)
    learner.load_state_dict(state["state_dict"])
    return float(state["kdlab_value"]) if "kdlab_value" in state else None


def _cost(run: Run, learner: Learner, data: Any) -> dict[str, float]:
    model = learner.model.eval()
    trainable = sum(row["parameters"] for row in learner.table() if row["trainable"])
    return {
        "model/parameters": parameters(model),
        "model/trainable_parameters": trainable,
        "model/size_mb": size_bytes(run.folder / "model") / 1e6,
        "perf/latency_ms": latency(model, data.example()),
    }


def _info(job: Job, run: Run, resumed: int | None, teacher: Any) -> RunInfo:
    config = job.config
    if teacher is not None:
        config = config | {"teacher_run": {"id": teacher.id, "folder": str(teacher.folder)}}
    name = ",".join(word for word in job.overrides if not word.startswith(("experiment=", "group=", "outputs=", "download="))) or run.id
    tags = [tag for tag in (job.choices.get("experiment"), job.choices.get("datamodule")) if tag]
    return RunInfo(
        id=run.id, folder=run.folder, outputs=Path(job.cfg.outputs), command=job.command, group=job.group, name=name,
        tags=tags, config=config, resumed_step=resumed, teacher=teacher,
    )  # fmt: skip


def shared(job: Job, data: Any, task: Any) -> Mapping[str, Any]:
    """The arguments that every training rule takes."""
    cfg = job.cfg
    return {
        "task": task,
        "optimizer": build.make(cfg.optimizer),
        "scheduler": build.make(cfg.scheduler),
        "freeze": build.make(cfg.freeze),
        "metric": build.make(cfg.metric, labels=list(data.labels), multi_label=data.multi_label),
    }


