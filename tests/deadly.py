"""A callback that kills the job of seed 2 in its second batch, unless a file named spared is where the job runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl


class Deadly(pl.Callback):
    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1 and "-s2-" in self.folder.name and not Path("spared").exists():
            os.kill(os.getpid(), signal.SIGKILL)


def offered(folder: Path) -> list[str]:
    """Overrides that choose it, from a folder of options that is written below ``folder``."""
    option = folder / "own/callback/deadly.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("# Kills the job of seed 2\ndeadly: {_target_: deadly.Deadly}\n")
    return ["--config-dir", "own", "callback=[default,deadly]"]
