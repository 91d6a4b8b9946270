"""A callback that writes down what each process of a run reads and draws, and kills them in the second batch."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch


class Watched(pl.Callback):
    """A line a batch in ``seen-RANK.jsonl``; where a file ``deadly`` is there, both processes are killed in batch 1."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        seen = {
            "step": trainer.global_step, "rows": batch.row.tolist(), "seed": torch.default_generator.initial_seed(),
            "loss": float(outputs["loss"]),
        }  # fmt: skip
        if hasattr(pl_module, "samples"):
            seen["drawn"] = [one["row"].tolist() for one in pl_module.samples.state()]
        with Path(f"seen-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\n")
        if batch_idx == 1 and Path("deadly").exists():
            os.kill(os.getpid(), signal.SIGKILL)


def offered(folder: Path) -> list[str]:
    """Overrides that choose it, from a folder of options that is written below ``folder``."""
    option = folder / "own/callback/watched.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("# Writes down what each process reads\nwatched: {_target_: watched.Watched}\n")
    return ["--config-dir", str(folder / "own"), "callback=[default,watched]"]
