"""A callback that writes down when each training batch ended, for runs of kdlab's own command line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
import torch


@final
class Clock(pl.Callback):
    """Leaves ``{"first": …, "epochs": [[…], …]}`` at ``path``: wall times in seconds since 1970, batch by batch.

    Args:
        path: of a file; in it ``{job}`` becomes the run directory's name.
        folder: the run directory.
    """

    def __init__(self, path: str, folder: Path) -> None:
        self.path = Path(path.replace("{job}", Path(folder).name))
        self.epochs: list[list[float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append([])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.epochs[-1].append(time.time())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        first = self.epochs[0][0]
        self.path.write_text(json.dumps({"first": first, "epochs": self.epochs, "precision": str(trainer.precision)}))


def words(path: Path) -> list[str]:
    """The overrides that add the clock to a run; ``{job}`` in the path stays as it is."""
    return ["+callback.clock._target_=tests.benchmarks.clock.Clock", f'+callback.clock.path="{path}"']


def step_seconds(epoch: list[float]) -> float:
    """Seconds a batch, from the end of the first, which warms up, to the end of the last."""
    return (epoch[-1] - epoch[0]) / (len(epoch) - 1)
