"""Stops a run that a search has given up, at the end of a validation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn

from kdlab.error import UserError
from kdlab.file import read_json

if TYPE_CHECKING:
    import optuna

TRIAL = "trial.json"  # in a run directory: which trial of which study the run is
FIELDS = ("study", "pruner", "monitor")
STORAGE = "KDLAB_STORAGE"  # where the studies are, in the environment that all workers of a search inherit


def pruner(name: str) -> optuna.pruners.BasePruner:
    """``none``, ``asha`` or ``hyperband``.

    Source: Li et al. 2020, arXiv:1810.05934 (ASHA); Li et al. 2018, arXiv:1603.06560 (Hyperband).
    """
    from optuna.pruners import HyperbandPruner, NopPruner, SuccessiveHalvingPruner

    return {"none": NopPruner, "asha": SuccessiveHalvingPruner, "hyperband": HyperbandPruner}[name]()


class Pruned(Exception):  # noqa: N818  nothing went wrong
    """The search has given up this trial; the run can be gone on with all the same, from its last checkpoint."""


@final
class Prune(pl.Callback):
    """Reports the study's metric after each validation, and raises :class:`Pruned` where the study stops the trial.

    Args:
        folder: the run directory, with ``trial.json``.
    """

    def __init__(self, folder: Path) -> None:
        recorded: dict[str, Any] = read_json(folder / TRIAL, remedy := "delete it, and the run is not pruned", dict)
        if not isinstance(recorded.get("trial"), int) or not all(
            isinstance(recorded.get(name), str) for name in FIELDS
        ):
            raise UserError(f"{folder / TRIAL} names no trial of a study; {remedy}")
        self.monitor: str = recorded["monitor"]
        self.recorded = recorded

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        if self.monitor not in trainer.callback_metrics:
            raise UserError(
                f"hydra.sweeper.objectives: {self.monitor} was not logged in validation, so nothing is pruned"
            )
        value, epoch = float(trainer.callback_metrics[self.monitor]), trainer.current_epoch
        if trainer.strategy.broadcast(trainer.is_global_zero and self._given_up(value, epoch)):
            raise Pruned(f"given up after epoch {epoch + 1} with {self.monitor} {value:.4g}, worse than other trials")

    def _given_up(self, value: float, epoch: int) -> bool:
        from optuna import Trial, load_study
        from optuna.samplers import RandomSampler

        study = load_study(
            study_name=self.recorded["study"], storage=os.environ[STORAGE], sampler=RandomSampler(),
            pruner=pruner(self.recorded["pruner"]),
        )  # fmt: skip
        trial = Trial(study, self.recorded["trial"])
        trial.report(value, epoch)
        return trial.should_prune()
