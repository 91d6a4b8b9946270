"""The progress of a run: a bar on a terminal, a line an epoch anywhere else, and a file that can be read later."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar

from kdlab import terminal
from kdlab.file import write_json
from kdlab.terminal import clock
from kdlab.value import NonNegative

log = logging.getLogger(__name__)

FILE = "progress.json"  # of a run directory: step, steps, epoch, epochs, seconds so far and left; null where not known
QUIET = 60.0  # seconds of a long epoch without a line, where there is no terminal
FIRST = 5.0  # seconds after which a line has the time that the training will take
STEPS = 3  # steps that are timed for it


class Progress(ProgressBar):
    """A bar with the last validation and the time left, which names training, validation and test.

    Where standard error is no terminal each epoch is one line there, a long one a line a minute, and the first steps of
    a long training one with the time that it will take. The jobs of a sweep write none, but for a teacher's training.
    Either way each epoch is a line of run.log, and ``progress.json`` in the run directory holds how far the run is,
    which ``kdlab runs live=true`` shows; where it cannot be written, the run goes on without.

    Args:
        folder: the run directory.
        refresh_seconds: least time between two drawings of the bar.
        write_seconds: least time between two writes of progress.json within an epoch.
    """

    def __init__(self, folder: Path, refresh_seconds: NonNegative = 0.5, write_seconds: NonNegative = 10.0) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.refresh_seconds = refresh_seconds
        self.write_seconds = write_seconds
        self.written = 0.0  # the clock at the last write
        self.printed = 0.0  # and at the last line
        self.drawn = 0.0  # and at the last drawing
        self.enabled = True
        self.line: terminal.Line | None = None
        self.began = (0.0, 0)  # the clock and the step when this process began to train
        self.total: int | None = None
        self.reached = ""  # the last validation
        self.spoke = False  # whether any line was printed since then

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = (time.perf_counter(), trainer.global_step)
        self.printed, self.spoke = self.began[0], False
        self.total = _total(trainer)
        self._write(trainer)
        self._open(trainer)
        self._draw(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if now - self.drawn >= self.refresh_seconds:
            self._draw(trainer, pl_module)
            first = now - self.began[0] >= FIRST and not self.spoke and trainer.global_step >= self.began[1] + STEPS
            if self.line is None and (first or now - self.printed >= QUIET):
                self._announce(trainer, self._loss(pl_module))
        if now - self.written >= self.write_seconds:
            self._write(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._part("validation", 0, sum(trainer.num_val_batches))

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        self._part("validation", batch_idx + 1, sum(trainer.num_val_batches))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        names = [getattr(one, "monitor", None) for one in trainer.checkpoint_callbacks]
        own: Any = getattr(pl_module, "primary", str)
        name = next(filter(None, names), None) or own()
        if name in trainer.callback_metrics:
            self.reached = f"{name} {float(trainer.callback_metrics[name]):.3f}"
        self.drawn = 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)
        known = trainer.callback_metrics
        own: Any = getattr(pl_module, "primary", str)
        shown = [name for name in ("train/loss", "val/loss", own()) if name in known]
        self._announce(trainer, "".join(f"  {name} {float(known[name]):.4g}" for name in shown))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)
        self._close()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open(trainer)
        batches = int(sum(trainer.num_test_batches))
        if self.line is None and self.enabled and trainer.is_global_zero:
            terminal.announce(f"test: {terminal.counted(batches, 'batch')}")
        self._part("test", 0, batches)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        self._part("test", batch_idx + 1, sum(trainer.num_test_batches))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _draw(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Draw the bar of the training."""
        self.drawn = time.perf_counter()
        if self.line is None:
            return
        epochs = _epochs(trainer)
        name = f"training {trainer.current_epoch + 1}/{epochs}" if epochs else "training"
        _, ahead = self._times(trainer)
        reached = self.reached or self._loss(module).strip()
        after = "  ".join(filter(None, [reached, "" if ahead is None else f"{clock(ahead)} left"]))
        part = None if not self.total else min(trainer.global_step / self.total, 1.0)
        self.line.show(terminal.bar(name, part, after, terminal.width() - 1, terminal.plain()))

    def _part(self, name: str, done: int, total: float) -> None:
        """Draw the bar of a validation or of the test, if it was not drawn just now."""
        now = time.perf_counter()
        if self.line is None or (done and now - self.drawn < self.refresh_seconds):
            return
        self.drawn = now
        part = done / total if 0 < total < float("inf") else None
        self.line.show(terminal.bar(name, part, self.reached, terminal.width() - 1, terminal.plain()))

    def _loss(self, module: pl.LightningModule) -> str:
        """The loss of the last batch."""
        loss = getattr(module, "last_logged", {}).get("train/loss")
        return "" if loss is None else f"  train/loss {float(loss):.4g}"

    def _announce(self, trainer: pl.Trainer, values: str) -> None:
        """One line: to run.log, and to standard error where no bar is drawn."""
        if not self.enabled or not trainer.is_global_zero:
            return
        self.printed, self.spoke = time.perf_counter(), True
        seconds, ahead = self._times(trainer)
        left = "" if ahead is None else f", {clock(ahead)} left"
        epochs = _epochs(trainer)
        text = f"epoch {trainer.current_epoch + 1}{f'/{epochs}' if epochs else ''}  step {trainer.global_step}"
        text += f"{f'/{self.total}' if self.total else ''}{values}  {clock(seconds)}{left}"
        log.info("%s", text)
        if self.line is None and (terminal.speaks() or self._needed_first()):
            terminal.note(text if terminal.speaks() else f"  {text}")

    def _needed_first(self) -> bool:
        """Whether this run is none that a sweep counts, but one that its jobs wait for, such as their teacher."""
        return terminal.carried_out is not None and terminal.carried_out.absolute() != self.folder.absolute()

    def _times(self, trainer: pl.Trainer) -> tuple[float, float | None]:
        """Seconds that this process trained, and seconds left at its pace."""
        seconds, steps = time.perf_counter() - self.began[0], trainer.global_step - self.began[1]
        if self.total is None or (not steps and self.total > trainer.global_step):
            return seconds, None
        return seconds, seconds / max(steps, 1) * max(self.total - trainer.global_step, 0)

    def _write(self, trainer: pl.Trainer) -> None:
        self.written = time.perf_counter()
        if not trainer.is_global_zero:
            return
        seconds, left = self._times(trainer)
        known = {
            "step": trainer.global_step,
            "steps": self.total,
            "epoch": trainer.current_epoch,
            "epochs": _epochs(trainer),
            "seconds": round(seconds, 1),
            "left": None if left is None else round(left, 1),
        }
        with suppress(OSError):
            write_json(self.folder / FILE, known)

    def _open(self, trainer: pl.Trainer) -> None:
        self.line = terminal.Line() if self.enabled and trainer.is_global_zero and terminal.draws() else None

    def _close(self) -> None:
        if self.line is not None:
            self.line.wipe()
            self.line = None


def _epochs(trainer: pl.Trainer) -> int | None:
    return None if trainer.max_epochs in (None, -1) else trainer.max_epochs


def _total(trainer: pl.Trainer) -> int | None:
    total = trainer.estimated_stepping_batches
    return None if total == float("inf") else int(total)
