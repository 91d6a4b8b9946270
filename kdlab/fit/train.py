"""From a job to a finished run directory: claim, begin or resume, fit, test, save, done."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from torch import Tensor

from kdlab.artifact import overlap, select
from kdlab.artifact.find import unchanged
from kdlab.artifact.prune import remove
from kdlab.artifact.run import Run, claim, enroll
from kdlab.artifact.trained import Trained
from kdlab.callback.checkpoint import Checkpoint
from kdlab.callback.leave import Leave
from kdlab.callback.prune import STORAGE, TRIAL, Prune
from kdlab.config import build, monitor
from kdlab.config.direction import installed
from kdlab.config.job import Job
from kdlab.error import UserError
from kdlab.file import sha256, wanted, write_json
from kdlab.fit import length, turn
from kdlab.fit.display import Voice, telling
from kdlab.fit.rank import Companions
from kdlab.logger.base import Journal, RunInfo, Source, opened
from kdlab.logger.history import FILE as HISTORY
from kdlab.metric.confusion import confusion, row_count
from kdlab.metric.cost import LENGTH, latency, macs, parameters
from kdlab.metric.majority import majority
from kdlab.model.dropout import quicken
from kdlab.model.save import size_bytes
from kdlab.model.shard import fill, splits
from kdlab.module.base import Learner
from kdlab.module.reader import reader
from kdlab.precision import computing
from kdlab.transform.save import save_finished
from kdlab.transform.sequence import Transforms

log = logging.getLogger(__name__)
# Lightning's tips and limits say nothing of the run, and frozen blocks are in eval mode on purpose
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
warnings.filterwarnings("ignore", message="The number of training batches")
warnings.filterwarnings("ignore", message="The `srun` command is available")  # on a login node; cluster=slurm uses it

AGREEMENT = "val/fidelity/agreement"
NEARLY_ALL = 0.99  # of a split's rows

UNREADABLE = (
    KeyError, TypeError, AttributeError, ValueError, RuntimeError, IndexError, MisconfigurationException,
)  # fmt: skip
MOST_STEPS = 2**53  # of a training
RESUMED = {  # what Lightning looks for in a checkpoint to go on from
    "state_dict": dict, "global_step": int, "epoch": int, "loops": dict, "callbacks": dict, "optimizer_states": list,
    "lr_schedulers": list, "pytorch-lightning_version": str,
}  # fmt: skip


@dataclass
class Prepared:
    """What a command adds to a run.

    Attributes:
        learner: what is trained.
        metrics: what is known of its teachers.
        teachers: these by place in the config.
        start: whose weights the student begins with, if not with its own.
        transforms: what the model that learns was changed by.
    """

    learner: Learner
    metrics: dict[str, float] = field(default_factory=dict)
    teachers: dict[str, Trained] = field(default_factory=dict)
    start: Trained | None = None
    transforms: Transforms = field(default_factory=Transforms)


Tell = Callable[[Mapping[str, Trained]], None]
Prepare = Callable[[Job, Any, Tell], Prepared]


def alone(found: Mapping[str, Trained]) -> None:
    """There is nobody to tell that the teachers are trained."""


def carry_out(job: Job, prepare: Prepare) -> float | None:
    """Do a job once: a finished run is returned as it is, an unfinished one goes on.

    Args:
        prepare: what a command adds to the run with this data; it tells when all teachers are trained, if there are.

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
            known = _train(job, run, prepare, voice)
    except UserError:
        begun = (job.folder / HISTORY).exists()
        if alone and not begun and not wanted(job.folder / ".lock"):  # nothing was trained: there is no run to keep
            remove(job.folder)
        raise
    voice.finished(run, known)
    return run.done["value"] if run.done else None


def _train(job: Job, run: Run, prepare: Prepare, voice: Voice) -> dict[str, float]:
    cfg, start = job.cfg, time.perf_counter()
    monitor.check(cfg)
    build.accelerated(cfg.trainer)
    torch.manual_seed(cfg.seed)
    data = select.data(cfg)
    voice.data(data)
    # told before a teacher is trained
    data.check_steps(_devices(cfg.trainer), cfg.trainer.get("accumulate_grad_batches", 1))
    overlap.write(run.folder, data)
    with Companions(cfg.trainer, run.folder) as others:

        def taught(found: Mapping[str, Trained]) -> None:
            _tell_teachers(run, found)
            voice.teachers(found)
            others.start()

        prepared = prepare(job, data, taught)
        if prepared.start is not None:
            write_json(run.folder / "start.json", {"id": prepared.start.id, "folder": str(prepared.start.folder)})
        learner = prepared.learner
        voice.learner(learner, prepared.start)
        loggers = {name: partial(build.make, node) for name, node in (cfg.logger or {}).items()}
        with opened(info(job, run, prepared.teachers, prepared.start), loggers) as journal:
            _tell_trainable(learner, journal)
            start += turn.wait()
            measured, metric, keeper = fit(job, run, learner, data, journal, others, voice)
            directions = _directions(learner)
            learner.model = save_finished(learner.transforms, learner.model, data.tokenizer, run.folder / "model")
            if learner.task.uses_labels:
                write_json(run.folder / "model" / "labels.json", list(data.labels))
            known = measured | prepared.metrics | _cost(run, learner, data) | _majority(learner, data)
            known |= _tell_test(run, learner, data)
            journal.summary(known)
            if told := one_class(learner.test_confusion, data.labels):
                print(f"warning: {told}", file=sys.stderr, flush=True)
            weights = run.folder / "model" / "model.safetensors"
            journal.produce(Source(run.id, weights, sha256(weights)))
    if keeper is not None:
        keeper.finish()
    run.finish(known.get(f"best/{metric}"), metric, time.perf_counter() - start, known, directions)
    return known


def fit(
    job: Job, run: Run, learner: Learner, data: Any, journal: Journal, others: Companions, voice: Voice | None = None
) -> tuple[dict[str, float], str, Checkpoint | None]:
    """Train, go back to the best weights, and test; every process of a run on several devices calls it.

    Args:
        voice: tells the user of it; None: another process does.

    Returns:
        What was measured, the name of the metric that decided which weights are best, and who kept them.
    """
    callbacks = build.several(job.cfg.callback, folder=run.folder)
    if not data.scored and learner.task.uses_labels:
        _by_agreement(callbacks)
    keeper = next((callback for callback in callbacks if isinstance(callback, Checkpoint)), None)
    callbacks.append(Leave(keeper))
    callbacks += [Prune(run.folder)] if (run.folder / TRIAL).exists() and STORAGE in os.environ else []
    restored = _Restored(voice, data)
    trainer: Trainer = build.make(
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
            learner.reader = reader(
                learner.model, learner.freezing, learner.task, data, learner.taps, Path(job.cfg.outputs) / "store",
                passes(trainer, data),
            )  # fmt: skip
    others.ready()
    try:
        trainer.fit(learner, datamodule=data, ckpt_path=run.last_checkpoint, weights_only=True)
    except SystemExit as stop:  # what Lightning makes of Ctrl-C, after which it is deaf to it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from stop
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        RuntimeError,
        IndexError,
        MisconfigurationException,
    ) as problem:
        if restored.yes or run.last_checkpoint is None:
            raise
        raise _misfit(run.last_checkpoint, problem) from problem
    measured = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("perf/")}
    measured |= _load_best(keeper, learner)
    if learner.task.uses_labels and data.scored:
        learner.test_counts = confusion(learner.task.outcome)
    tested = trainer.test(learner, datamodule=data, verbose=False)[0]
    learner.assemble()
    others.finish()
    decides = keeper.monitor if keeper is not None and keeper.monitor else "val/accuracy"
    return measured | {name: float(value) for name, value in tested.items()}, decides, keeper


def _by_agreement(callbacks: Sequence[Callback]) -> None:
    """Let callbacks that follow a score follow the agreement with the teacher: no row has a label to score."""
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor.startswith("val/") and not monitor.startswith("val/fidelity/"):
            log.warning("no validation row has a label: %s follows %s", type(callback).__name__, AGREEMENT)
            callback.monitor = AGREEMENT  # type: ignore[attr-defined]
            if hasattr(callback, "mode"):
                callback.mode = "max"


def _directions(learner: Learner) -> dict[str, bool | None]:
    """Whether more is better of everything that the run may have measured, as the owner of each declares it."""
    found = dict(installed())
    for callback in learner.trainer.callbacks:  # type: ignore[attr-defined]
        found |= getattr(callback, "higher_is_better", {})
    return found | learner.directions


def one_class(counts: Tensor | None, labels: Sequence[str]) -> str:
    """A sentence about a model that predicts one class for nearly all rows of the test; "" about any other.

    Args:
        counts: ``[C, C]``, rows by their label and by what was predicted; None or ``[C, 2, 2]``: nothing to say.

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
        "have that label, so it has not learned to tell the classes apart: train longer (trainer.max_epochs), try "
        "another optimizer.lr, or another model"
    )


def passes(trainer: Trainer, data: Any) -> float:
    """How often a training row is read, on average, at most."""
    limits = [float(trainer.max_epochs)] if trainer.max_epochs and trainer.max_epochs > 0 else []
    limits += [trainer.max_steps * data.rows_per_step / len(data.splits["train"])] if trainer.max_steps > 0 else []
    return min(limits)


def _devices(node: DictConfig) -> int:
    """How many devices a trainer says that it has; 1 where the machine decides."""
    devices = node.get("devices", 1)
    return devices * node.get("num_nodes", 1) if isinstance(devices, int) and devices > 0 else 1


def _tell_teachers(run: Run, found: Mapping[str, Trained]) -> None:
    """Write down who teaches the run."""
    told: dict[str, Any] = {"places": {place: str(one.folder) for place, one in found.items()}}
    told["weights"] = {place: one.fingerprint for place, one in found.items()}
    if (single := found.get("teacher")) is not None:
        told |= {"id": single.id, "folder": str(single.folder)}
    write_json(run.folder / "teacher.json", told)


def _tell_trainable(learner: Learner, journal: Journal) -> None:
    """Which blocks learn, and how fast: to the run's log and to the loggers."""
    rows = learner.table()
    columns = list(rows[0])
    for row in rows:
        log.info("trainable: %s", ", ".join(f"{name} {value}" for name, value in row.items()))
    journal.table("model/trainable", columns, [[row[name] for name in columns] for row in rows])


def _checkpoint(path: Path, parts: Mapping[str, type]) -> dict[str, Any]:
    """A checkpoint, read without running code from it; torch itself does not look at the checksums.

    Args:
        parts: what must be in it.
    """
    try:
        with zipfile.ZipFile(path) as records:
            if any(one.compress_type != zipfile.ZIP_STORED for one in records.infolist()):
                raise ValueError("it is compressed, which torch never does")
            if broken := records.testzip():
                raise ValueError(f"{broken} was altered")
        content = torch.load(path, map_location="cpu", weights_only=True)
        for name, kind in parts.items():
            if not isinstance(content[name], kind):
                raise TypeError(f"{name} is none")
        if not 0 <= content.get("global_step", 0) <= MOST_STEPS:
            raise ValueError(f"it is of step {content['global_step']}")
        return content
    except Exception as problem:
        raise UserError(
            f"checkpoint {path} cannot be read ({type(problem).__name__}); "
            "delete it to train from the start, or add rerun=true"
        ) from problem


class _Restored(Callback):
    """Whether training has begun, so that what fails is no longer the checkpoint that it goes on from."""

    yes = False

    def __init__(self, voice: Voice | None, data: Any) -> None:
        self.voice, self.data = voice, data

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.yes = True
        if self.voice is not None:
            self.voice.training(trainer, self.data)


def _misfit(path: Path, problem: Exception) -> UserError:
    reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
    return UserError(
        f"checkpoint {path} cannot be read: it is not one of this run ({reason}); delete it to train from the start, "
        "or add rerun=true"
    )


def _load_best(keeper: Checkpoint | None, learner: Learner) -> dict[str, float]:
    """Put the best checkpoint's weights into the learner; where nothing was monitored, the last weights stay."""
    if keeper is None or keeper.best_value is None or keeper.best_step is None:
        return {}
    best = _checkpoint(keeper.best, {"state_dict": dict})
    try:
        if splits(learner.trainer):
            fill(learner, best["state_dict"])
        else:
            learner.load_state_dict(best["state_dict"])
        learner.on_load_checkpoint(best)
    except (RuntimeError, TypeError, AttributeError) as problem:
        raise _misfit(keeper.best, problem) from problem
    return {f"best/{keeper.monitor}": keeper.best_value, "best/step": float(keeper.best_step)}


def _cost(run: Run, learner: Learner, data: Any) -> dict[str, float]:
    model, length = learner.model.eval(), min(data.max_length, LENGTH)
    times = {f"perf/{name}": value for name, value in latency(model, length).items()}
    return times | {
        "model/parameters": parameters(model)["parameters"],
        "model/trainable_parameters": sum(row["trainable"] for row in learner.table()),
        "model/macs": macs(model, length),
        "model/size_mb": size_bytes(run.folder / "model") / 1e6,
        "perf/padding": data.train_dataloader().padding(),
    }


def _majority(learner: Learner, data: Any) -> dict[str, float]:
    """The accuracy of always giving the commonest class, beside the model's own."""
    if not learner.task.uses_labels:
        return {}
    codes = data.codes
    found = {name: majority(codes[data.splits["train"]], codes[data.splits[name]]) for name in ("val", "test")}
    return {f"{name}/majority": value for name, value in found.items() if value is not None}


def _tell_test(run: Run, learner: Learner, data: Any) -> dict[str, float]:
    """Write down which test rows there were and what was predicted of them, by class, for those who compare runs."""
    told: dict[str, Any] = {"set": data.test_set}
    found = {"test/rows": float(len(data.splits["test"]))}
    counts = learner.test_confusion
    if counts is not None and counts.sum():
        found = {"test/rows": float(row_count(counts))}
        if counts.ndim > 1:
            told |= {"labels": list(data.labels), "confusion": counts.tolist()}
    write_json(run.folder / "test.json", told)
    return found


def info(job: Job, run: Run, teachers: Mapping[str, Trained], start: Trained | None = None) -> RunInfo:
    config, sources = job.config, {}
    if start is not None:
        config["start_run"] = {"id": start.id, "sha256": sha256(start.weights / "model.safetensors")}
    for place, teacher in teachers.items():
        weights = teacher.weights / "model.safetensors"
        sources[place] = Source(teacher.id, weights, sha256(weights))
        config[f"{place.replace('.', '_')}_run"] = {"id": teacher.id, "sha256": sources[place].sha256}
    resumed = 0 if run.last_checkpoint is None else _checkpoint(run.last_checkpoint, RESUMED)["global_step"]
    return RunInfo(
        id=run.id, folder=run.folder, outputs=Path(job.cfg.outputs), command=job.command, group=job.group,
        name=job.name or run.id, tags=job.tags, config=config, resumed_step=resumed,
        teacher=next(iter(sources.values()), None),
    )  # fmt: skip


def penalised(job: Job, prepared: Prepared) -> Prepared:
    """The same, with its transforms, and the penalty on the weights, which are still those of the start."""
    prepared.learner.transforms = prepared.transforms
    prepared.learner.penalty = build.make(job.cfg.penalty, model=prepared.learner.model)
    return prepared


def shared(job: Job, data: Any, task: Any) -> Mapping[str, Any]:
    """The arguments that every training rule takes."""
    cfg = job.cfg
    return {
        "task": task,
        "optimizer": build.optimizer(cfg.optimizer),
        "scheduler": build.scheduler(cfg.scheduler),
        "freeze": build.make(cfg.freeze),
        "metric": build.metric(cfg.metric, task, data.labels),
    }
