"""How far a run is: a bar on a terminal, a log line per epoch anywhere else, and a file for who looks later."""

from __future__ import annotations

import logging
import multiprocessing
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from kdlab.file import write_json

log = logging.getLogger(__name__)

FILE = "progress.json"  # of a run directory: step, steps, epoch, epochs, seconds so far and left; null where not known


class Progress(ProgressBar):
    """A bar over all optimizer steps of the run, with the time left and the last validation, when a person watches.

    Where standard error is no terminal, or several jobs of a sweep share one (a worker process), each epoch is one log
    line that starts with the run's id. Either way ``progress.json`` in the run directory says how far the run is, which
    ``kdlab runs live=true`` shows; where it cannot be written, the run goes on without.

    Args:
        folder: the run directory; its name is the run's id.
        refresh_seconds: least time between two drawings of the bar.
        write_seconds: least time between two writes of progress.json within an epoch.
    """

    def __init__(self, folder: Path, refresh_seconds: float = 0.5, write_seconds: float = 10.0) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.run = self.folder.name
        self.refresh_seconds = refresh_seconds
        self.write_seconds = write_seconds
        self.written = 0.0  # the clock at the last write
        self.enabled = True
        self.bar: Any = None
        self.began = (0.0, 0)  # the clock and the step when this process began to train

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = (time.perf_counter(), trainer.global_step)
        self._write(trainer)
        if self.enabled and trainer.is_global_zero and watched():
            self.bar = tqdm(
                total=_total(trainer),
                initial=trainer.global_step,
                desc=self.run,
                unit="step",
                mininterval=self.refresh_seconds,
                dynamic_ncols=True,
                leave=True,
                file=sys.stderr,
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is not None:
            self.bar.update(trainer.global_step - self.bar.n)
        if time.perf_counter() - self.written >= self.write_seconds:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)
        if not self.enabled or not trainer.is_global_zero:
            return
        shown = {name: float(trainer.callback_metrics[name]) for name in _shown(trainer)}
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join(f"{name} {value:.4g}" for name, value in shown.items()))
            return
        seconds, ahead = self._times(trainer)
        left = "" if ahead is None else f", {_clock(ahead)} left"
        epochs = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        values = "".join(f"  {name} {value:.4g}" for name, value in shown.items())
        log.info(
            "%s  epoch %d%s  step %d%s  %s%s",
            self.run,
            trainer.current_epoch + 1,
            epochs,
            trainer.global_step,
            values,
            _clock(seconds),
            left,
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _times(self, trainer: pl.Trainer) -> tuple[float, float | None]:
        """Seconds that this process trained, and seconds left at its pace."""
        seconds, steps = time.perf_counter() - self.began[0], trainer.global_step - self.began[1]
        total = _total(trainer)
        if total is None or (not steps and total > trainer.global_step):
            return seconds, None
        return seconds, seconds / max(steps, 1) * max(total - trainer.global_step, 0)

    def _write(self, trainer: pl.Trainer) -> None:
        self.written = time.perf_counter()
        if not trainer.is_global_zero:
            return
        seconds, left = self._times(trainer)
        known = {
            "step": trainer.global_step,
            "steps": _total(trainer),
            "epoch": trainer.current_epoch,
            "epochs": None if trainer.max_epochs in (None, -1) else trainer.max_epochs,
            "seconds": round(seconds, 1),
            "left": None if left is None else round(left, 1),
        }
        with suppress(OSError):
            write_json(self.folder / FILE, known)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def watched() -> bool:
    """Whether a bar can be drawn: a terminal that no other job of the sweep writes to."""
    return sys.stderr.isatty() and multiprocessing.current_process().name == "MainProcess"


def _shown(trainer: pl.Trainer) -> list[str]:
    return [name for name in ("train/loss", "val/loss", "val/accuracy") if name in trainer.callback_metrics]


def _total(trainer: pl.Trainer) -> int | None:
    total = trainer.estimated_stepping_batches
    return None if total == float("inf") else int(total)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
