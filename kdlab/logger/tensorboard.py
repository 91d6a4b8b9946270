"""TensorBoard event files in the run directory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from kdlab.error import UserError
from kdlab.logger.base import RunInfo, SampleLogger
from kdlab.text import one_line

LONGEST = 2000  # characters of a text that are shown


@final
class TensorBoard(TensorBoardLogger, SampleLogger):
    """Lightning's logger, with texts."""

    @rank_zero_only
    def samples(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        self.experiment.add_text(name, markdown(columns, rows), step)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as TensorBoard shows one.

    Example:
        >>> print(markdown(["row", "student"], [[3, "a | b"]]))
        | row | student |
        |---|---|
        | 3 | a \\| b |
    """
    lines = [columns, *rows]
    cells = [[one_line(cell, LONGEST).replace("|", "\\|") for cell in line] for line in lines]
    head, *rest = ["| " + " | ".join(line) + " |" for line in cells]
    return "\n".join([head, "|" + "---|" * len(columns), *rest])


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
    return TensorBoard(str(info.folder), name="", version="tensorboard", default_hp_metric=False, **options)
