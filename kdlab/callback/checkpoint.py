"""The two checkpoints of a run: last.ckpt to go on from, best.ckpt to test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, final

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from kdlab.direction import PRIMARY, mode
from kdlab.error import UserError
from kdlab.file import full, make_folder, put, sync
from kdlab.logger.history import FILE
from kdlab.value import Direction, Whole


@final
class Synced(TorchCheckpointIO):
    """Writes a checkpoint to the path that it is given, and to the disk.

    Lightning's own writes it to the system's temporary folder first, which may be small and on another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        make_folder(path.parent)
        try:
            with path.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as problem:
            raise full(problem, path) from problem


class Checkpoint(LightningCheckpoint):
    """Writes ``checkpoints/last.ckpt`` after each epoch and ``best.ckpt`` after each validation that beat all before.

    A file is written to the disk beside its place and then moved there, so a kill or a power loss at any moment leaves
    the old one or the new one.
    last.ckpt is moved only once its step is logged, which a run that goes on from it does not do again.
    best.ckpt holds the weights only, and the first of equals stays. While a transform changes the model, such as one
    that prunes it more and more, no weights are the best: the run is for those at its end. Both files load with
    ``torch.load(..., weights_only=True)``.

    Args:
        folder: the run directory.
        monitor: the metric that decides; ``primary``: that of the run's first evaluator; None: there is no best.ckpt.
        mode: ``max`` or ``min``: whether more or less is better; None: as the metric declares.
        every_n_steps: optimizer steps between two writes of last.ckpt within an epoch; 0: only after each epoch.
        keep_optimizer: whether last.ckpt of a finished run keeps the state of the optimizer; see :meth:`finish`.
    """

    higher_is_better: ClassVar[dict[str, bool | None]] = {"step": None}  # best/step

    def __init__(
        self,
        folder: Path,
        monitor: str | None = PRIMARY,
        mode: Direction | None = None,
        every_n_steps: Whole = 0,
        keep_optimizer: bool = False,
    ) -> None:
        if mode not in (None, "max", "min"):
            raise UserError(
                f"callback.checkpoint.mode={mode} is unknown: choose max or min, or null for the metric's direction."
            )
        self.folder = Path(folder) / "checkpoints"
        self.monitor = monitor
        self.mode = mode
        self.every_n_steps = every_n_steps
        self.keep_optimizer = keep_optimizer
        self.best_value: float | None = None
        self.best_step: int | None = None
        self.written = 0  # the optimizer step of the newest last.ckpt
        self.pending = False  # it is not in its place yet
        self.over = False  # the training that goes on had come to its end

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.folder / "best.ckpt"

    @property
    def best_model_path(self) -> str:
        """The path that ``trainer.test(ckpt_path="best")`` reads."""
        return str(self.best) if self.best_value is not None else ""

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value, self.best_step = state_dict["best_value"], state_dict["best_step"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = Synced()
        if self.monitor is not None:
            self.monitor = followed(self.monitor, trainer, pl_module)
            self.mode = mode(self.monitor, self.mode, getattr(pl_module, "directions", {}), "callback.checkpoint.mode")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # best.ckpt comes before the last.ckpt that names it: a kill in between repeats the epoch and writes it again
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or self.monitor is None:
            return
        if self.monitor not in trainer.callback_metrics:
            raise UserError(
                f"callback.checkpoint.monitor={self.monitor} was not logged in validation: choose one of "
                f"{', '.join(sorted(trainer.callback_metrics))}, or null for no best.ckpt."
            )
        if not complete(pl_module):
            return
        value = float(trainer.callback_metrics[self.monitor])
        better = self.best_value is None or (value > self.best_value if self.mode == "max" else value < self.best_value)
        if better and value == value:
            self.best_value, self.best_step = value, trainer.global_step
            self._save(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        asked = self.every_n_steps and step > self.written and step % self.every_n_steps == 0
        if asked and not before_validation(trainer, batch_idx):
            self.keep(trainer)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.over = not checkpoint.get("optimizer_states", [None])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.over:
            raise UserError(
                f"{self.last} is of a training that was over and has no optimizer state, so no further step can go on "
                "from it: add rerun=true to train the run again"
            )
        self.place(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.keep(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.place(trainer)

    def keep(self, trainer: pl.Trainer) -> None:
        """Write last.ckpt, for :meth:`place`; every rank calls it, at the end of an optimizer step."""
        trainer.save_checkpoint(self.last.with_suffix(".part"))
        trainer.strategy.barrier()
        self.written, self.pending = trainer.global_step, True

    def place(self, trainer: pl.Trainer) -> None:
        """Put what :meth:`keep` wrote into its place, now that the loggers have its step."""
        if self.pending and trainer.is_global_zero:
            if (history := self.folder.parent / FILE).exists():
                sync(history)  # a run that goes on from this step does not log the steps before it again
            put(self.last.with_suffix(".part"), self.last)
        self.pending = False

    def finish(self) -> None:
        """Leave the optimizer's state out of last.ckpt, for training is over; before done.json, so no kill keeps it.

        The weights, the place in the data and what callbacks remember stay, so the run goes on from it to its end.
        """
        if self.keep_optimizer or not self.last.exists():
            return
        content = torch.load(self.last, map_location="cpu", weights_only=True, mmap=True)
        temporary = self.last.with_suffix(".part")
        Synced().save_checkpoint(content | {"optimizer_states": []}, temporary)
        put(temporary, self.last)

    def _save(self, trainer: pl.Trainer) -> None:
        """Write best.ckpt."""
        temporary = self.best.with_suffix(".part")
        trainer.save_checkpoint(temporary, weights_only=True)
        if trainer.is_global_zero:
            put(temporary, self.best)
        trainer.strategy.barrier()


def followed(monitor: str, trainer: pl.Trainer, learner: pl.LightningModule) -> str:
    """The metric that a monitor names: ``primary`` is the one that the run is for."""
    if monitor != PRIMARY:
        return monitor
    primary: Any = learner.primary
    return str(primary(getattr(trainer.datamodule, "scored", True)))  # type: ignore[attr-defined]


def complete(learner: pl.LightningModule) -> bool:
    """Whether the transforms of the model have done all that they were asked for, such as prune it."""
    transforms = getattr(learner, "transforms", None)
    return transforms is None or transforms.complete(learner.progress)


def before_validation(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a validation comes before the next batch: a checkpoint from before it would never come back to it."""
    return trainer.is_last_batch or (batch_idx + 1) % (trainer.val_check_batch or 1) == 0
