"""The live table of a sweep, for a terminal of any height."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kdlab.report.live import Row, ahead, counts
from kdlab.report.table import COLOURS

BAR = 16  # cells of a progress bar
NOTE = 48  # cells of a note, where the table must fit
HEAD = 5  # lines around the rows


def screen(rows: Sequence[Row], height: int | None = None) -> Group:
    """A title that counts, and a row a run; every name and reason as plain text.

    Args:
        height: lines of the terminal, where the table must fit: then the last rows are counted instead of shown.
    """
    title = f"{len(rows)} runs: " + ", ".join(f"{count} {state}" for state, count in counts(rows).items())
    left = ahead(rows)
    title += "" if left is None else f"; about {_clock(left)} left"
    shown = list(rows) if height is None else list(rows)[: max(height - HEAD - 1, 1)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("state")
    table.add_column("run", overflow="ellipsis", no_wrap=height is not None)
    table.add_column("progress", no_wrap=True)
    table.add_column("left", justify="right")
    table.add_column("", overflow="ellipsis", no_wrap=height is not None, max_width=NOTE if height else None)
    for row in shown:
        done = "" if row.part is None or row.state == "finished" else f"{_bar(row.part)} {row.part:4.0%}"
        time = row.left if row.took is None else row.took
        clock = "" if time is None else f"{'took ' if row.took is not None else ''}{_clock(time)}"
        state = Text(row.state, style=COLOURS.get(row.state, "dim"))
        table.add_row(state, Text(row.name), Text(done), Text(clock), Text(row.note))
    rest = counts(rows[len(shown) :])
    more = ", ".join(f"{count} {state}" for state, count in rest.items())
    return Group(Text(title), table, *([Text(f"and {more}")] if rest else []))


def _bar(part: float) -> str:
    full = round(part * BAR)
    return "━" * full + "─" * (BAR - full)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
