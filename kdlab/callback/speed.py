"""The training speed of a run."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch

from kdlab.batch import Batch
from kdlab.direction import SPENT


class Speed(pl.Callback):
    """Leaves ``perf/samples_per_second`` (training rows), ``perf/step_ms`` and, where rows have tokens,
    ``perf/tokens_per_second`` (those with one before them) and ``perf/padding``, the share of padding in training
    batches, in ``trainer.callback_metrics``.

    The time is that of the training loop with its data loading; validation, checkpoints at an epoch's end and the very
    first batch, which warms up, are left out. It is kept over restarts and never logged as a curve, so that a resumed
    run's history equals an undisturbed one's.
    """

    higher_is_better: ClassVar[dict[str, bool | None]] = {
        "perf/samples_per_second": True,
        "perf/tokens_per_second": True,
        "perf/step_ms": False,
        "perf/padding": False,
    }
    costs: ClassVar[dict[str, str]] = {"perf/samples_per_second": SPENT}

    def __init__(self) -> None:
        self.seconds = 0.0
        self.rows = 0
        self.tokens = 0.0
        self.batches = 0
        self.warm = False
        self.since: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "rows": self.rows, "tokens": self.tokens, "batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.rows, self.batches = (state_dict[key] for key in ("seconds", "rows", "batches"))
        self.tokens = state_dict.get("tokens", 0.0)  # which earlier checkpoints lack

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.warm = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.warm:
            self._go()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.warm:
            self.warm = True
            self._wait()
            self._go()
            return
        self.rows += len(batch) * trainer.world_size
        self.tokens += (batch.size.get("tokens", 0.0) if isinstance(batch, Batch) else 0.0) * trainer.world_size
        self.batches += 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.warm and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._go()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()
        loader: Any = trainer.train_dataloader
        if hasattr(loader, "padding"):
            trainer.callback_metrics["perf/padding"] = torch.tensor(loader.padding())
        if self.batches:
            trainer.callback_metrics["perf/samples_per_second"] = torch.tensor(self.rows / self.seconds)
            if self.tokens:
                trainer.callback_metrics["perf/tokens_per_second"] = torch.tensor(self.tokens / self.seconds)
            trainer.callback_metrics["perf/step_ms"] = torch.tensor(1000 * self.seconds / self.batches)

    def _go(self) -> None:
        self.since = time.perf_counter()

    def _stop(self) -> None:
        if self.since is not None:
            self._wait()
            self.seconds += time.perf_counter() - self.since
            self.since = None

    def _wait(self) -> None:
        """A clock read while the device still works would be too early."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
