"""Lightning's own CSV layout in the run directory, for tools that expect it; history.csv is written in any case."""

from __future__ import annotations

from lightning.pytorch.loggers import CSVLogger, Logger

from kdlab.logger.base import RunInfo


def csv(info: RunInfo, flush_every: int = 100) -> Logger:
    """Lightning's logger, writing to ``<folder>/csv/metrics.csv``.

    Args:
        flush_every: logged rows between two writes.
    """
    return CSVLogger(str(info.folder), name="", version="csv", flush_logs_every_n_steps=flush_every)
