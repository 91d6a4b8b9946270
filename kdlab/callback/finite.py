"""Stops a run whose loss is no number any more, before it can count as done."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.model.shard import part, splits
from kdlab.value import Count

NEVER = torch.iinfo(torch.int64).max


class Finite(pl.Callback):
    """Raises UserError with the first step (as in history.csv) and the terms where the loss was NaN or infinite.

    What each step brought is kept on the device; the host asks every ``every_n_steps`` steps, after each epoch, at the
    end of training and before a checkpoint is written, so no checkpoint ever holds a broken model. The last two
    also ask whether the weights are finite, for the step after the last loss.

    Args:
        every_n_steps: batches between two questions to the device.
    """

    def __init__(self, every_n_steps: Count = 50) -> None:
        self.every_n_steps = every_n_steps
        self.step = 0  # as history.csv counts: the steps done before this one
        self.names: list[str] = []
        self.first: Tensor | None = None  # per name, the first broken step, or NEVER

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        values = {"train/loss": outputs["loss"] if isinstance(outputs, dict) else outputs}
        logged: dict[str, Tensor] = pl_module.last_logged  # type: ignore[assignment]
        values |= {name: value for name, value in logged.items() if name.startswith("train/loss/")}
        if list(values) != self.names:
            self.check()
            self.names, self.first = list(values), None
        if values:
            now = torch.stack([value.detach().float().reshape(()) for value in values.values()])
            step = torch.where(now.isfinite(), NEVER, self.step)
            self.first = step if self.first is None else torch.minimum(self.first, step)
        if (batch_idx + 1) % self.every_n_steps == 0:
            self.check()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.check()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.check()
        self.check_weights(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.check()
        self.check_weights(trainer, pl_module)

    def check(self) -> None:
        """Ask the device once for all steps since the start."""
        if self.first is None:
            return
        steps = dict(zip(self.names, self.first.tolist(), strict=True))
        broken = {name: step for name, step in steps.items() if step != NEVER}
        if not broken:
            return
        at = min(broken.values())
        terms = ", ".join(name for name, step in broken.items() if step == at)
        raise UserError(
            f"training stopped: {terms} became NaN or infinite at step {at}; "
            "lower optimizer.lr, set trainer.gradient_clip_val=1.0, or look at that term's temperature and weight."
        )

    def check_weights(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        weights = {name: weight for name, weight in pl_module.named_parameters() if weight.requires_grad}
        if not weights:
            return
        bad = torch.stack([~part(weight.detach()).isfinite().all() for weight in weights.values()]).float()
        if splits(trainer):  # each process has looked at its part
            bad = trainer.strategy.reduce(bad, reduce_op="sum")
        broken = [name for name, found in zip(weights, bad.tolist(), strict=True) if found]
        if broken:
            raise UserError(
                f"training stopped: {len(broken)} weights, the first {broken[0]}, are NaN or infinite after step "
                f"{trainer.global_step}; lower optimizer.lr or set trainer.gradient_clip_val=1.0."
            )
