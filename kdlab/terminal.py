"""The output of a command on standard error while it works: lines, and on a terminal one line that is drawn anew.

Only one process prints. A job of a local sweep hands its notes to the sweep's driver; other workers are silent, and
their run.log has everything.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from kdlab.text import printable

WIDTH = 80  # columns of a terminal that does not give its own
REFRESH = 0.2  # seconds between two drawings
LONGEST = 30  # cells of a bar

Deliver = Callable[[str, str], None]

_deliver: Deliver | None = None  # hands a note to the process that prints for this one
carried_out: Path | None = None  # the directory of this process's run, or of its last one
_drawn: Line | None = None  # the line that is on the terminal now


def hand_over(deliver: Deliver | None) -> None:
    """Let another process print the notes of this one; None: this one prints again.

    Args:
        deliver: is called with a kind, ``note`` or ``run``, and a text.
    """
    global _deliver
    _deliver = deliver


def speaks() -> bool:
    """Whether this process writes for itself: it is no worker of a sweep."""
    return _deliver is None and multiprocessing.current_process().name == "MainProcess"


def draws(stream: TextIO | None = None) -> bool:
    """Whether a line can be drawn anew: this process prints, to a terminal that can move its cursor."""
    return speaks() and (stream or sys.stderr).isatty() and os.environ.get("TERM") != "dumb"


def width(stream: TextIO | None = None) -> int:
    """Columns of the terminal; 80 where it does not give them."""
    try:
        return os.get_terminal_size((stream or sys.stderr).fileno()).columns or WIDTH
    except (OSError, ValueError):  # no terminal, or no file at all
        return WIDTH


def clock(seconds: float) -> str:
    """A duration as ``m:ss``, or ``h:mm:ss`` from an hour on.

    Example:
        >>> clock(72.4), clock(3600)
        ('1:12', '1:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def counted(count: int, unit: str) -> str:
    """A number and what is counted.

    Example:
        >>> counted(1, "batch"), counted(1200, "batch"), counted(2, "epoch")
        ('1 batch', '1,200 batches', '2 epochs')
    """
    return f"{count:,} {unit}{'' if count == 1 else 'es' if unit.endswith('tch') else 's'}"


def note(text: str) -> None:
    """Print one line above the line that is drawn, or hand it to the process that prints for this one."""
    if _deliver is not None:
        _deliver("note", text)
    else:
        announce(text)


def doing(folder: Path) -> None:
    """Report the run that this process carries out to the process that prints for it, if one does."""
    global carried_out
    carried_out = folder
    if _deliver is not None:
        _deliver("run", str(folder))


def announce(text: str) -> None:
    """Print one line on standard error; nothing where this process does not print."""
    if not speaks():
        return
    if (drawn := _drawn) is not None:
        drawn.wipe()
    print(printable(text), file=sys.stderr, flush=True)
    if drawn is not None:
        drawn.show(drawn.text)


class Line:
    """One line of a terminal, drawn anew in place and gone in the end; nothing where nothing can be drawn."""

    def __init__(self) -> None:
        self.draws = draws()
        self.text = ""

    def show(self, text: str) -> None:
        """Draw ``text``, cut to the terminal's width."""
        global _drawn
        if self.draws:
            self.text, _drawn = text, self
            sys.stderr.write("\r" + printable(text)[: width() - 1] + "\x1b[K")
            sys.stderr.flush()

    def wipe(self) -> None:
        """Leave the line empty."""
        global _drawn
        if self.draws and _drawn is self:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            _drawn = None


def bar(name: str, part: float | None, after: str, columns: int, plain: bool = False) -> str:
    """One line of at most ``columns``: a name, how much is done, and details; the last is never cut off.

    Args:
        part: in [0, 1]; None: not known, and left out.
        plain: use ASCII alone.

    Example:
        >>> bar("training", 0.5, "0:12 left", 40, plain=True)
        'training  50%  #######-------  0:12 left'
    """
    if part is None:
        return f"{name}  {after}"
    rest = f"{name} {part:4.0%}"
    room = min(columns - len(rest) - len(after) - 4, LONGEST)
    if room < 4:
        return f"{rest}  {after}"
    full, empty = "#-" if plain else "━─"
    done = int(part * room)
    return f"{rest}  {full * done}{empty * (room - done)}  {after}"


class Bar:
    """The progress of a piece of work; where no line can be drawn, one line names what begins.

    Args:
        name: of the work, such as ``teacher pass``; None: nothing is shown.
        total: amount to do; None: not known.
        unit: the unit of counting.
    """

    def __init__(self, name: str | None, total: int | None, unit: str = "batch") -> None:
        self.name, self.total = name or "", total
        self.begun = time.perf_counter()
        self.drawn = 0.0
        self.first: int | None = None
        self.line = Line()
        self.line.draws = self.line.draws and name is not None
        if not self.line.draws and name is not None:
            announce(name if total is None else f"{name}: {counted(total, unit)}")

    def update(self, done: int) -> None:
        """Set how much is done; it is drawn at most every ``REFRESH`` seconds."""
        now = time.perf_counter()
        if not self.line.draws or now - self.drawn < REFRESH:
            return
        self.drawn = now
        if self.first is None:  # what was done before this process began does not count for its pace
            self.first, self.begun = done, now
        pace = (now - self.begun) / (done - self.first) if done > self.first else None
        left = "" if pace is None or self.total is None else f"{clock(pace * (self.total - done))} left"
        part = None if not self.total else min(done / self.total, 1.0)
        self.line.show(bar(self.name, part, left, width() - 1, plain()))

    def close(self) -> None:
        self.line.wipe()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def plain() -> bool:
    """Whether standard error takes ASCII alone."""
    return "utf" not in (getattr(sys.stderr, "encoding", None) or "").lower()
