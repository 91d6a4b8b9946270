"""TensorBoard event files in the run directory."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from kdlab.error import UserError
from kdlab.logger.base import RunInfo


def tensorboard(info: RunInfo, **options: Any) -> Logger:
    """Lightning's logger, writing to ``<folder>/tensorboard``.

    Args:
        options: arguments of ``torch.utils.tensorboard.SummaryWriter``, such as ``flush_secs``.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise UserError(
            "logger=tensorboard needs the package tensorboard, which is not installed: "
            "run `pip install 'kdlab[tensorboard]'`, or choose logger=csv or logger=wandb."
        ) from None
    return TensorBoardLogger(str(info.folder), name="", version="tensorboard", default_hp_metric=False, **options)
