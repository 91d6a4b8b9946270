"""The table of runs: the same rows for the terminal, csv and parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from kdlab.error import UserError
from kdlab.metric.direction import gathered, higher_is_better
from kdlab.report.read import Record
from kdlab.report.setting import flatten, short, swept, text

METRICS = (
    "val/accuracy",
    "test/accuracy",
    "test/f1_macro",
    "test/ece",
    "test/fidelity/agreement",
    "val/fidelity/agreement",
    "model/parameters",
    "perf/latency_ms",
)
COLOURS = {"finished": "green", "running": "cyan", "interrupted": "yellow", "failed": "red", "unreadable": "magenta"}
Rows = list[dict[str, Any]]


def rows(
    records: Sequence[Record], columns: Sequence[str] | None = None, every: bool = False
) -> tuple[list[str], Rows]:
    """Column names and one mapping a run.

    Args:
        columns: config keys, metric names or ``id``, ``command``, ``state``, ``group``, ``job``, ``seed``, ``started``,
            ``seconds``, ``reason``. None: state, id, what differs, the main metrics, seconds and reasons.
        every: with no `columns`, all metrics (for files) and not only the accuracies (for a terminal).
    """
    keys = swept(records)
    flats = [flatten(record.config) for record in records]
    measured = list(dict.fromkeys(name for record in records for name in record.metrics))
    if columns is None:
        wide = sorted(measured) if every else [name for name in ("val/accuracy", "test/accuracy") if name in measured]
        own = ["command"] if every or len({record.command for record in records}) > 1 else []
        seeds = ["seed"] if every or len({record.seed for record in records}) > 1 else []
        files = ["group", "job", "started"] if every else []
        columns = ["state", *own, "id", *files, *keys, *seeds, *wide, "seconds", "reason"]
    known = {"id", "command", "state", "group", "job", "seed", "started", "seconds", "reason"} | set(measured)
    unknown = [name for name in columns if name not in known and not any(name in flat for flat in flats)]
    if unknown:
        raise UserError(
            f"columns={unknown}: no run has them; there are {sorted(known)} and every key of the runs' config.yaml."
        )
    return list(columns), [_row(record, flat, columns) for record, flat in zip(records, flats, strict=True)]


def _row(record: Record, flat: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    own = ("id", "command", "state", "group", "job", "seed", "started", "seconds", "reason")
    return {
        name: getattr(record, name) if name in own else record.metrics.get(name, flat.get(name)) for name in columns
    }


def ordered(records: Sequence[Record], by: str) -> list[Record]:
    """The best first by a metric, the smallest first by other fields; runs without it come last.

    A metric of which nobody says whether more is better has its largest values first.
    """

    def value(record: Record) -> Any:
        found = record.metrics.get(by)
        return found if found is not None else _row(record, flatten(record.config), [by])[by]

    having = [record for record in records if value(record) not in (None, "")]
    rest = [record for record in records if value(record) in (None, "")]
    descending = "/" in by and higher_is_better(by, gathered(record.done for record in records)) is not False
    try:
        having.sort(key=value, reverse=descending)
    except TypeError:  # numbers and texts under one key
        having.sort(key=lambda record: text(value(record)))
    return having + rest


def to_terminal(columns: Sequence[str], lines: Rows, console: Console, title: str) -> None:
    """Print with rich; every value as plain text, so that a name cannot style or steer the terminal.

    Where the whole does not fit, ids are cut to their hash, columns of one value left out and reasons put underneath.
    Columns are never squeezed: a table that is still too wide is for a pager.
    """
    full = _table(columns, lines)
    if _width(full, console) <= console.width:
        console.print(Text(title), full)
        return
    apart = [name for name in columns if name not in ("state", "id") and len({text(line[name]) for line in lines}) == 1]
    few = [name for name in columns if name not in apart and name != "reason"]
    brief = [{**line, "id": str(line["id"])[-8:]} if "id" in line else line for line in lines]
    table = _table(few, brief)
    console.width = max(console.width, _width(table, console))
    console.print(Text(title), table)
    for line in brief:
        if line.get("reason"):
            console.print(Text(f"{line.get('id', '')} {line['reason']}".strip()))


def _table(columns: Sequence[str], lines: Rows) -> Table:
    names = short([name for name in columns if "/" not in name])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in columns:
        right = any(isinstance(line[name], (int, float)) for line in lines)
        table.add_column(Text(names.get(name, name)), justify="right" if right else "left", no_wrap=True)
    for line in lines:
        styles = {"state": COLOURS.get(str(line.get("state")), "")}
        table.add_row(*(Text(_cell(line[name]), style=styles.get(name, "")) for name in columns))
    return table


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def to_csv(columns: Sequence[str], lines: Rows) -> str:
    """The rows as CSV; an empty cell is "not there"."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if line[name] is None else line[name] for name in columns] for line in lines])
    return stream.getvalue()


def to_parquet(columns: Sequence[str], lines: Rows, file: Path) -> None:
    """The rows as parquet; a column that mixes numbers and texts is written as text."""
    import pyarrow
    from pyarrow import parquet

    def column(name: str) -> list[Any]:
        values = [line[name] for line in lines]
        kinds = {bool if isinstance(v, bool) else float if isinstance(v, (int, float)) else type(v) for v in values}
        return values if len(kinds - {type(None)}) <= 1 else [None if v is None else text(v) for v in values]

    parquet.write_table(pyarrow.table({name: pyarrow.array(column(name)) for name in columns}), file)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) and abs(value) < 10 and value != int(value) else text(value)
