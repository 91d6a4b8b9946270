"""The two checkpoints of a run: last.ckpt to go on from, best.ckpt to test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from kdlab.error import UserError


class Checkpoint(LightningCheckpoint):
    """Writes ``checkpoints/last.ckpt`` after each epoch and ``best.ckpt`` after each validation that beat all before.

    A file is written beside its place and then moved there, so a kill at any moment leaves the old one or the new one.
    best.ckpt holds the weights only, and the first of equals stays. Both load with
    ``torch.load(..., weights_only=True)``.

    Args:
        folder: the run directory.
        monitor: the metric that decides; None: there is no best.ckpt.
        mode: ``max`` or ``min``.
        every_n_steps: optimizer steps between two writes of last.ckpt within an epoch; 0: only after each epoch.
    """

    def __init__(
        self, folder: Path, monitor: str | None = "val/accuracy", mode: str = "max", every_n_steps: int = 0
    ) -> None:
        if mode not in ("max", "min"):
            raise UserError(f"callback.checkpoint.mode={mode} is unknown: choose max or min.")
        self.folder = Path(folder) / "checkpoints"
        self.monitor = monitor
        self.mode = mode
        self.every_n_steps = every_n_steps
        self.best_value: float | None = None
        self.best_step: int | None = None
        self.written = 0  # the optimizer step of the newest last.ckpt

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.folder / "best.ckpt"

    @property
    def best_model_path(self) -> str:
        """What ``trainer.test(ckpt_path="best")`` asks for."""
        return str(self.best) if self.best_value is not None else ""

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value, self.best_step = state_dict["best_value"], state_dict["best_step"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # best.ckpt comes before the last.ckpt that knows of it: a kill in between repeats the epoch and writes it again
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or self.monitor is None:
            return
        if self.monitor not in trainer.callback_metrics:
            raise UserError(
                f"callback.checkpoint.monitor={self.monitor} was not logged in validation: choose one of "
                f"{', '.join(sorted(trainer.callback_metrics))}, or null for no best.ckpt."
            )
        value = float(trainer.callback_metrics[self.monitor])
        better = self.best_value is None or (value > self.best_value if self.mode == "max" else value < self.best_value)
        if better and value == value:
            self.best_value, self.best_step = value, trainer.global_step
            self._save(trainer, self.best, weights_only=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self.every_n_steps and step > self.written and step % self.every_n_steps == 0:
            self.keep(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.keep(trainer)

    def keep(self, trainer: pl.Trainer) -> None:
        """Write last.ckpt now; every rank calls it, at the end of an optimizer step."""
        self._save(trainer, self.last)

    def _save(self, trainer: pl.Trainer, path: Path, weights_only: bool = False) -> None:
        temporary = path.with_suffix(".part")
        trainer.save_checkpoint(temporary, weights_only=weights_only)
        if trainer.is_global_zero:
            temporary.replace(path)
        trainer.strategy.barrier()
        if path == self.last:
            self.written = trainer.global_step
