"""The progress of a long reading, with the time left: a line drawn anew on a terminal, else one now and then."""

from __future__ import annotations

import time
from typing import Any, Self

from kdlab.terminal import REFRESH, Line, announce, clock

EVERY = 15.0  # seconds between two lines where there is no terminal


class Meter:
    """Counts rows on standard error.

    Args:
        name: of the work, such as ``predicting``.
        total: rows in all; None: not known.
        done: rows that were done before.
    """

    def __init__(self, name: str, total: int | None, done: int = 0) -> None:
        self.name, self.total, self.done, self.first = name, total, done, done
        self.began = self.printed = time.perf_counter()
        self.drawn = Line()

    def more(self, rows: int) -> None:
        """Count more rows."""
        self.done += rows
        now = time.perf_counter()
        if now - self.printed >= (REFRESH if self.drawn.draws else EVERY):
            self.printed = now
            (self.drawn.show if self.drawn.draws else announce)(self.line(now - self.began))

    def line(self, seconds: float) -> str:
        """The line after this number of seconds."""
        if self.total is None or not self.total:
            return f"{self.name}: {self.done:,} rows"
        ahead = max(0, self.total - self.done) * seconds / max(1, self.done - self.first)
        part = self.done / self.total
        return f"{self.name}: {self.done:,} of {self.total:,} rows, {part:.0%}, {clock(ahead)} left"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.drawn.wipe()
