"""Stops a training that gains nothing any more."""

from __future__ import annotations

from typing import Any, final

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn

from kdlab.callback.checkpoint import complete, followed
from kdlab.direction import PRIMARY
from kdlab.schedule.patience import Patience
from kdlab.value import Direction, NonNegative, Whole


@final
class EarlyStopping(pl.Callback):
    """Ends the training after ``patience`` validations in a row that were not better than the best before.

    A run that was stopped stays so when it goes on from its last checkpoint. NaN is no gain. Validations do not count
    while a transform of the model is not complete, such as one that prunes it more and more.

    Args:
        monitor, mode, patience, min_delta: see :class:`kdlab.schedule.patience.Patience`.
    """

    def __init__(
        self,
        monitor: str = PRIMARY,
        mode: Direction | None = None,
        patience: Whole = 3,
        min_delta: NonNegative = 0.0,
    ) -> None:
        self.patience = Patience(monitor, mode, patience, min_delta, where="callback.early_stopping")
        self.stopped = False

    @property
    def monitor(self) -> str:
        """The metric that is followed; a run whose rows have no labels changes it."""
        return self.patience.monitor

    @monitor.setter
    def monitor(self, name: str) -> None:
        self.patience.monitor = name

    @property
    def mode(self) -> str | None:
        return self.patience.mode

    @mode.setter
    def mode(self, mode: str | None) -> None:
        self.patience.mode = mode

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.monitor = followed(self.monitor, trainer, pl_module)
        self.patience.direct(getattr(pl_module, "directions", {}))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.stopped

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or not complete(pl_module):
            return
        ended = self.patience.ends({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.stopped = trainer.strategy.reduce_boolean_decision(ended, all=False)
        trainer.should_stop = trainer.should_stop or self.stopped

    def state_dict(self) -> dict[str, Any]:
        return self.patience.state() | {"stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.patience.restore(state_dict)
        self.stopped = state_dict["stopped"]
