"""Trains and tests the model of a plan: every process of a run on several devices does this."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar

from kdlab.artifact.run import Run
from kdlab.callback.checkpoint import Checkpoint
from kdlab.callback.preemption import Preemption
from kdlab.callback.prune import STORAGE, TRIAL, Prune
from kdlab.callback.samples import Samples
from kdlab.config import instantiate
from kdlab.config.job import Job
from kdlab.datamodule.data import Data
from kdlab.direction import PRIMARY
from kdlab.error import UserError
from kdlab.fit.display import Voice
from kdlab.fit.rank import Companions
from kdlab.fit.resume import UNREADABLE, load_best, misfit
from kdlab.logger.base import Journal
from kdlab.metric.confusion import confusion
from kdlab.model.dropout import quicken
from kdlab.model.shard import splits
from kdlab.module.base import TrainingRule
from kdlab.module.forward import choose_forward
from kdlab.outcome import Classes
from kdlab.plan import length
from kdlab.precision import computing

log = logging.getLogger(__name__)
# Lightning's tips and limits do not concern the run, and frozen blocks are in eval mode on purpose
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
warnings.filterwarnings("ignore", message="The number of training batches")
warnings.filterwarnings("ignore", message="The `srun` command is available")  # on a login node; cluster=slurm uses it


def fit(
    job: Job,
    run: Run,
    learner: TrainingRule,
    data: Data,
    journal: Journal,
    others: Companions,
    voice: Voice | None = None,
) -> tuple[dict[str, float], str, Checkpoint | None]:
    """Train, go back to the best weights, and test; every process of a run on several devices calls it.

    Args:
        voice: prints for the user; None: another process does.

    Returns:
        The metrics, the name of the metric that decided which weights are best, and the callback that kept them.
    """
    callbacks = instantiate.several(job.cfg.callback, folder=run.folder)
    if not data.scored and learner.task.uses_labels:
        _without_labels(callbacks, learner)
    keeper = next((callback for callback in callbacks if isinstance(callback, Checkpoint)), None)
    callbacks.append(Preemption(keeper))
    callbacks += [Prune(run.folder)] if (run.folder / TRIAL).exists() and STORAGE in os.environ else []
    callbacks += [Samples(run.folder)] if learner.evaluators["val"].generates else []
    restored = _Restored(voice, data)
    trainer: Trainer = instantiate.make(
        job.cfg.trainer, callbacks=[restored, *callbacks], logger=journal.loggers, default_root_dir=str(run.folder),
        max_epochs=length.epochs(job.cfg.trainer, data),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False, enable_checkpointing=keeper is not None,
    )  # fmt: skip
    if trainer.max_epochs == trainer.max_steps == -1:
        raise UserError("training would never end: set trainer.max_epochs or trainer.max_steps to more than -1")
    learner.check(trainer)
    if trainer.is_global_zero and (device := trainer.strategy.root_device).type == "cuda":
        run.note(gpu=torch.cuda.get_device_name(device))
    quicken(learner)
    # deterministic=true also fills all new memory, which only code that reads what it never wrote would notice
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if job.cfg.compile:
        learner.compile_student(trainer)
    # an augmented row never comes again; a transform may change what is frozen; a split model keeps its layers' places
    elif job.cfg.reuse_frozen and data.augment is None and learner.transforms.keeps_frozen and not splits(trainer):
        with computing(job.cfg.trainer.precision, job.cfg.trainer.accelerator):
            learner.forward_pass = choose_forward(
                learner.model, learner.freezing, learner.task, data, learner.taps, Path(job.cfg.outputs) / "store",
                passes(trainer, data),
            )  # fmt: skip
    others.ready()
    try:
        trainer.fit(learner, datamodule=data, ckpt_path=run.last_checkpoint, weights_only=True)
    except SystemExit as stop:  # what Lightning makes of Ctrl-C, after which it is deaf to it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from stop
    except UNREADABLE as problem:
        if restored.yes or run.last_checkpoint is None:
            raise
        raise misfit(run.last_checkpoint, problem) from problem
    measured = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("perf/")}
    measured |= load_best(keeper, learner) if trainer.max_steps else _untrained(trainer, learner, data)
    if learner.task.uses_labels and isinstance(learner.task.outcome, Classes) and data.scored:
        learner.test_counts = confusion(learner.task.outcome)
    tested = trainer.test(learner, datamodule=data, verbose=False)[0]
    learner.assemble()
    others.finish()
    decides = keeper.monitor if keeper is not None and keeper.monitor else learner.primary(data.scored)
    return measured | {name: float(value) for name, value in tested.items()}, decides, keeper


def _untrained(trainer: Trainer, learner: TrainingRule, data: Data) -> dict[str, float]:
    """What validation gives of a model that takes no step, under the names of best weights."""
    found = trainer.validate(learner, datamodule=data, verbose=False)[0] if trainer.limit_val_batches else {}
    return {f"best/{name}": float(value) for name, value in found.items()} | {"best/step": 0.0}


def _without_labels(callbacks: Sequence[Callback], learner: TrainingRule) -> None:
    """Let callbacks that follow a score follow what needs no label: no validation row has one to score."""
    primary, needless = learner.primary(labelled=False), learner.evaluators["val"].chosen(without=("labels",))
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or not (monitor == PRIMARY or monitor.startswith("val/")):
            continue
        if monitor.removeprefix("val/") not in needless.higher_is_better:
            log.warning("no validation row has a label: %s follows %s", type(callback).__name__, primary)
            callback.monitor = primary  # type: ignore[attr-defined]
            if hasattr(callback, "mode"):
                callback.mode = None


def passes(trainer: Trainer, data: Data) -> float:
    """The most that a training row is read, on average."""
    if trainer.max_steps == 0:
        return 0.0
    limits = [float(trainer.max_epochs)] if trainer.max_epochs and trainer.max_epochs > 0 else []
    limits += [trainer.max_steps * data.rows_per_step / len(data.splits["train"])] if trainer.max_steps > 0 else []
    return min(limits)


class _Restored(Callback):
    """Whether training has begun, so that what fails is no longer the checkpoint that it goes on from."""

    yes = False

    def __init__(self, voice: Voice | None, data: Data) -> None:
        self.voice, self.data = voice, data

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.yes = True
        if self.voice is not None:
            self.voice.training(trainer, self.data)
