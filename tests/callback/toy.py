"""A training so small that a test can kill and resume it many times."""

import os
import signal
from types import SimpleNamespace
from typing import ClassVar

import lightning.pytorch as pl
import torch

from kdlab.batch import Batch

ROWS, BATCH, EPOCHS = 24, 4, 3


class Loader:
    """Batches in an order that depends on the epoch, and that goes on where a checkpoint was written.

    Within an epoch the trainer restores ``state_dict``; after a whole one it only calls ``set_epoch``.
    """

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(ROWS, 3, generator=generator)
        self.y = (self.x[:, 0] > 0).long()
        self.epoch, self.position = 0, 0
        self.batch_sampler = SimpleNamespace(sampler=self)  # where the trainer looks for set_epoch

    def set_epoch(self, epoch):
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def __len__(self):
        return ROWS // BATCH

    def __iter__(self):
        if self.position == len(self):
            self.position = 0
        while self.position < len(self):
            order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(self.epoch))
            rows = order[self.position * BATCH : (self.position + 1) * BATCH]
            self.position += 1
            yield Batch(rows, {"x": self.x[rows]}, {"label": self.y[rows]})

    def state_dict(self):
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state):
        self.epoch, self.position = state["epoch"], state["position"]


class Module(pl.LightningModule):
    directions: ClassVar = {"loss": False, "accuracy": True}

    def __init__(self, accuracy=None, lr=0.1, break_at=None):
        super().__init__()
        torch.manual_seed(0)
        self.model = torch.nn.Linear(3, 2)
        self.accuracy, self.lr, self.break_at = accuracy, lr, break_at

    def primary(self, labelled=True):
        return "val/accuracy"

    def training_step(self, batch, index):
        loss = torch.nn.functional.cross_entropy(self.model(batch.inputs["x"]), batch.target["label"])
        hint = loss.detach() * (float("nan") if self.global_step == self.break_at else 1.0)
        self.last_logged = {"train/loss/supervised": loss.detach(), "train/loss/hint": hint}
        self.log_dict({"train/loss": loss} | self.last_logged)
        return loss if self.break_at is None else loss + hint

    def validation_step(self, batch, index):
        right = (self.model(batch.inputs["x"]).argmax(-1) == batch.target["label"]).float().mean()
        value = right if self.accuracy is None else torch.tensor(self.accuracy[self.current_epoch])
        self.log("val/accuracy", value, on_epoch=True, batch_size=len(batch.target["label"]))

    def test_step(self, batch, index):
        self.log("test/x", self.model(batch.inputs["x"]).sum(), batch_size=len(batch.target["label"]))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9), "interval": "step"},
        }


class Kill(pl.Callback):
    """Ends the process as `kill -9` does, at one hook after a number of steps."""

    def __init__(self, hook, step):
        self.step = step
        setattr(self, hook, self._kill)

    def _kill(self, trainer, *args):
        if trainer.global_step >= self.step and not trainer.sanity_checking:
            os.kill(os.getpid(), signal.SIGKILL)


def trainer(loggers, callbacks, **options):
    options = {
        "max_epochs": EPOCHS,
        "log_every_n_steps": 2,
        "enable_model_summary": False,
        "accelerator": "cpu",
    } | options
    # Lightning adds a bar and checkpoints of its own where it finds none
    options["enable_progress_bar"] = any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks)
    options["enable_checkpointing"] = any(isinstance(callback, pl.callbacks.Checkpoint) for callback in callbacks)
    return pl.Trainer(logger=loggers, callbacks=callbacks, num_sanity_val_steps=0, **options)


def fit(trainer, module, **options):
    trainer.fit(module, Loader(), Loader(), weights_only=True, **options)
    return trainer


def in_child(work):
    """Run ``work()`` in a forked process; its exit status as ``os.waitpid`` gives it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]
