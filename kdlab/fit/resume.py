"""Checkpoints that a run goes on from, read as what somebody else may have written."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from kdlab.callback.checkpoint import Checkpoint
from kdlab.error import UserError
from kdlab.model.shard import fill, splits
from kdlab.module.base import TrainingRule

UNREADABLE = (
    KeyError, TypeError, AttributeError, ValueError, RuntimeError, IndexError, MisconfigurationException,
)  # fmt: skip
MOST_STEPS = 2**53  # of a training
RESUMED = {  # what Lightning looks for in a checkpoint to go on from
    "state_dict": dict, "global_step": int, "epoch": int, "loops": dict, "callbacks": dict, "optimizer_states": list,
    "lr_schedulers": list, "pytorch-lightning_version": str,
}  # fmt: skip


def read_checkpoint(path: Path, parts: Mapping[str, type]) -> dict[str, Any]:
    """A checkpoint, read without running code from it; torch itself does not look at the checksums.

    Args:
        parts: the keys that must be in it.
    """
    try:
        with zipfile.ZipFile(path) as records:
            if any(one.compress_type != zipfile.ZIP_STORED for one in records.infolist()):
                raise ValueError("it is compressed, which torch never does")
            if broken := records.testzip():
                raise ValueError(f"{broken} was altered")
        content = torch.load(path, map_location="cpu", weights_only=True)
        for name, kind in parts.items():
            if not isinstance(content[name], kind):
                raise TypeError(f"{name} is none")
        if not 0 <= content.get("global_step", 0) <= MOST_STEPS:
            raise ValueError(f"it is of step {content['global_step']}")
        return content
    except Exception as problem:
        raise UserError(
            f"checkpoint {path} cannot be read ({type(problem).__name__}); "
            "delete it to train from the start, or add rerun=true"
        ) from problem


def misfit(path: Path, problem: Exception) -> UserError:
    reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
    return UserError(
        f"checkpoint {path} cannot be read: it is not one of this run ({reason}); delete it to train from the start, "
        "or add rerun=true"
    )


def load_best(keeper: Checkpoint | None, learner: TrainingRule) -> dict[str, float]:
    """Put the best checkpoint's weights into the learner; where nothing was monitored, the last weights stay."""
    if keeper is None or keeper.best_value is None or keeper.best_step is None:
        return {}
    best = read_checkpoint(keeper.best, {"state_dict": dict})
    try:
        if splits(learner.trainer):
            fill(learner, best["state_dict"])
        else:
            learner.load_state_dict(best["state_dict"])
        learner.on_load_checkpoint(best)
    except (RuntimeError, TypeError, AttributeError) as problem:
        raise misfit(keeper.best, problem) from problem
    return {f"best/{keeper.monitor}": keeper.best_value, "best/step": float(keeper.best_step)}
