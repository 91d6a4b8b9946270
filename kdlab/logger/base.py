"""The interface of loggers, and the one context manager that opens and closes the loggers of a job."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from kdlab.logger.history import History

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A run whose model this run reads: the student's teacher.

    Attributes:
        id: the run's id.
        weights: the file with the weights.
        sha256: of ``weights``.
    """

    id: str
    weights: Path
    sha256: str


@dataclass(frozen=True)
class RunInfo:
    """The identity of a run. A logger is made by ``target(info=..., **yaml)``.

    Attributes:
        id: unique, and the same after a restart.
        folder: the run directory.
        outputs: the root of all results.
        command: ``finetune``, ``distill`` ...
        group: the sweep's name; empty outside a sweep.
        name: the overrides that differ.
        config: the resolved config, plain dicts and lists.
        resumed_step: optimizer steps done in the checkpoint that training goes on from; 0 is a fresh start.
        teacher: the run that taught, if any.
    """

    id: str
    folder: Path
    outputs: Path
    command: str
    group: str = ""
    name: str = ""
    tags: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    resumed_step: int = 0
    teacher: Source | None = None


class SampleLogger(ABC):
    """A logger that shows texts which a model wrote."""

    @abstractmethod
    def samples(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        """The texts of some rows after a step, as a table of their own for each step."""


class Recorder(Logger):
    """A logger that also keeps what is no curve. All but :meth:`close` do nothing unless overridden."""

    def summary(self, values: Mapping[str, float | str]) -> None:
        """One value per name for the whole run, such as ``best/val_accuracy`` or ``model/parameters``."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table, such as a confusion matrix or the trainable parameters by block."""

    def curve(self, name: str, x: Mapping[str, Sequence[float]], y: Mapping[str, Sequence[float]]) -> None:
        """A line plot over something that is not the step; ``x`` and ``y`` each hold one named sequence."""

    def produce(self, source: Source) -> None:
        """Declare that this run made these weights, so that a student can name them as its input."""

    @abstractmethod
    def close(self, exit_code: int) -> None:
        """End the record of this job."""


class Journal:
    """The loggers of one job: ``loggers`` for the trainer, and one call each for what is no curve."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.loggers = list(loggers)
        self.recorders = [logger for logger in loggers if isinstance(logger, Recorder)]

    def summary(self, values: Mapping[str, float | str]) -> None:
        self._forward("summary", values)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self._forward("table", name, columns, rows)

    def curve(self, name: str, x: Mapping[str, Sequence[float]], y: Mapping[str, Sequence[float]]) -> None:
        self._forward("curve", name, x, y)

    def produce(self, source: Source) -> None:
        self._forward("produce", source)

    def close(self, exit_code: int) -> None:
        """End the record of this job; a failure is logged and never hides the job's own error."""
        self._forward("close", exit_code)
        for logger in self.loggers:
            if logger not in self.recorders:
                logger.finalize("success" if exit_code == 0 else "failed")

    def _forward(self, call: str, *values: Any) -> None:
        """A recorder that fails must not undo hours of training: the run directory has the results."""
        for recorder in self.recorders:
            try:
                getattr(recorder, call)(*values)
            except Exception:
                log.exception("%s.%s failed; the run directory is whole all the same", type(recorder).__name__, call)


@contextmanager
def opened(info: RunInfo, loggers: Mapping[str, Callable[..., Logger]]) -> Iterator[Journal]:
    """Open history.csv and the configured loggers, and close them with this job's own exit code.

    Args:
        info: the facts that every logger receives.
        loggers: name -> a factory called as ``factory(info=info)``.
    """
    journal = Journal([])
    code = 1
    try:
        made: list[Logger] = []
        for make in (History, *loggers.values()):
            made.append(make(info=info))
            journal = Journal(made)
        yield journal
        code = 0
    finally:
        journal.close(code)
