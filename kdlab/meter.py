"""How far a long reading is, with the time left: a line that is drawn anew on a terminal, else one now and then."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, Self

from kdlab.text import printable

REFRESH = 0.2  # seconds between two drawings on a terminal
EVERY = 15.0  # seconds between two lines where there is none


class Meter:
    """Counts rows on standard error.

    Args:
        name: of the work, such as ``predicting``.
        total: rows in all; None: not known.
        done: rows that were done before.
    """

    def __init__(self, name: str, total: int | None, done: int = 0) -> None:
        self.name, self.total, self.done, self.first = name, total, done, done
        self.began = self.told = time.perf_counter()
        self.draws = sys.stderr.isatty()

    def more(self, rows: int) -> None:
        """So many rows are done in addition."""
        self.done += rows
        now = time.perf_counter()
        if now - self.told >= (REFRESH if self.draws else EVERY):
            self.told = now
            line = self.line(now - self.began)
            if self.draws:
                sys.stderr.write("\r" + line[: shutil.get_terminal_size().columns - 1] + "\x1b[K")
                sys.stderr.flush()
            else:
                tell(line)

    def line(self, seconds: float) -> str:
        """What is said after so many seconds."""
        if self.total is None or not self.total:
            return printable(f"{self.name}: {self.done:,} rows")
        ahead = max(0, self.total - self.done) * seconds / max(1, self.done - self.first)
        part = self.done / self.total
        return printable(f"{self.name}: {self.done:,} of {self.total:,} rows, {part:.0%}, {clock(ahead)} left")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.draws:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def tell(line: str) -> None:
    """One line on standard error."""
    print(printable(line), file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """A duration as ``m:ss``, or ``h:mm:ss`` from an hour on.

    Example:
        >>> clock(72.4), clock(3600)
        ('1:12', '1:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
