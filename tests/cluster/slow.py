"""A training that is still in its middle when a test does something to it, however fast or loaded the machine is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

FILE = "slow"
BEGIN = 10  # optimizer steps


class Slow(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step >= BEGIN and Path(FILE).exists():
            time.sleep(1)
