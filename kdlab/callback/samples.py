"""Keeps what a model wrote in a validation, for people to read: in the run directory, and by loggers of texts."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn

from kdlab.file import write_text
from kdlab.logger.base import SampleLogger

log = logging.getLogger(__name__)

FILE = "samples.jsonl"


@final
class Samples(pl.Callback):
    """Writes ``<folder>/samples.jsonl``: a line for each sampled row of each validation and of the test.

    A line has ``split``, ``step`` as in history.csv, ``row``, and texts by name: ``prompt``, ``reference``, ``student``
    and, where a live teacher generates, ``teacher``. Lines of steps that are trained again are dropped first.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / FILE

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.path.exists():
            kept = [line for line in self._lines() if line["split"] == "val" and line["step"] < trainer.global_step]
            self._write(kept)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == TrainerFn.FITTING:
            self._add(trainer, pl_module, "val")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._add(trainer, pl_module, "test")

    def _add(self, trainer: pl.Trainer, learner: Any, split: str) -> None:
        found = learner.evaluators[split].samples() if trainer.is_global_zero else []
        if not found:
            return
        step = max(0, trainer.global_step - 1)
        self._write(
            [*(self._lines() if self.path.exists() else []), *({"split": split, "step": step} | one for one in found)]
        )
        columns = list(dict.fromkeys(name for one in found for name in one))
        rows = [[one.get(name, "") for name in columns] for one in found]
        for logger in trainer.loggers:
            if isinstance(logger, SampleLogger):
                try:
                    logger.samples(f"{split}/samples", columns, rows, step)
                except Exception:  # the run directory has them, and training goes on
                    log.exception("%s cannot show samples; %s has them", type(logger).__name__, self.path)

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines() if line]

    def _write(self, lines: list[dict[str, Any]]) -> None:
        write_text(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
