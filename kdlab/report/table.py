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

from kdlab.config.identity import shown as shown_id
from kdlab.report.column import Columns
from kdlab.report.compare import is_baseline
from kdlab.report.figure import figure
from kdlab.report.parse import number
from kdlab.report.read import Record
from kdlab.report.setting import is_number, text

COLOURS = {"finished": "green", "running": "cyan", "interrupted": "yellow", "failed": "red", "unreadable": "magenta"}
LONGEST = 24  # characters of a text in a table that must fit
STAR = "★"
AMONG = "the run without a teacher is the reference and is not among them"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet computes instead of showing
Rows = list[dict[str, Any]]


def rows(
    records: Sequence[Record], columns: Sequence[str] | None = None, every: bool = False
) -> tuple[list[str], Rows]:
    """Column names and one mapping a run.

    Args:
        columns: config keys, metric names, ``id``, ``command``, ``state``, ``group``, ``job``, ``seed``, ``started``,
            ``seconds``, ``reason``, ``data``, or any heading that is shown. None: id, quality, what differs, state.
        every: with no `columns`, all metrics (for files) and not only the main ones (for a terminal).

    Raises:
        UserError: no run has a column.
    """
    there = Columns(records)
    columns = default(there, every) if columns is None else [there.key(name, "columns") for name in columns]
    return list(columns), [{name: there.value(record, name) for name in columns} for record in records]


def default(there: Columns, every: bool = False) -> list[str]:
    """The columns that are shown where none are asked for."""
    own = {name: len({there.value(record, name) for record in there.records}) > 1 for name in ("data", "command")}
    if every:
        files = ["state", "command", "id", "data", "group", "job", "started"]
        return [*files, *there.keys, "seed", *sorted(there.measured), "seconds", "reason"]
    quality = [name for name in dict.fromkeys([there.validation, there.test]) if name in there.measured]
    seed = ["seed"] * (len({record.seed for record in there.records}) > 1)
    keys = [key for key in there.keys if not (own["data"] and key in ("choice.datamodule", "datamodule.path"))]
    return ["id", *[name for name in own if own[name]], *quality, *keys, *seed, "state", "seconds", "reason"]


def wide(there: Columns) -> list[str]:
    """The default columns and the other main metrics."""
    columns = default(there)
    place = columns.index("state")
    return [*columns[:place], *[n for n in there.metrics if n in there.measured and n not in columns], *columns[place:]]


def ordered(records: Sequence[Record], by: str | None = None) -> list[Record]:
    """Runs with different test rows apart, each with the best first by a metric; runs without it come last of all.

    Args:
        by: a metric (the largest first where it has no direction), or a field or config key, which puts the smallest
            first. None: the validation metric, by which models are chosen.

    Raises:
        UserError: no run has it.
    """
    there = Columns(records)
    key = there.validation if by is None else there.key(by, "sort")
    metric = key in there.measured or key in there.metrics
    sign = -1 if metric and there.more_is_better(key) is not False else 1
    problems = list(dict.fromkeys(there.problems[record.folder] for record in records))

    def place(record: Record) -> tuple:
        value = there.value(record, key)
        if value is None or value == "":
            return len(problems), 2, 0.0, ""
        group = problems.index(there.problems[record.folder]) if metric else 0
        return (group, 0, sign * value, "") if is_number(value) else (group, 1, 0.0, text(value))

    return sorted(records, key=place)


def best(records: Sequence[Record]) -> set[Path]:
    """The folders of the runs with the best validation value, one for each command and data set with several runs.

    Runs without a teacher are not among them where others have one, as in the report. Of equals it is the one that
    began first, whatever the order of the table.
    """
    found: dict[tuple[str, str], list[Record]] = {}
    there = Columns(records)
    for record in records:
        if record.state == "finished" and there.validation in record.metrics:
            found.setdefault((record.command, there.problems[record.folder]), []).append(record)
    more = there.more_is_better(there.validation)
    if more is None:
        return set()
    sign = 1 if more else -1
    return {
        min(_taught(several), key=lambda record: (-sign * record.metrics[there.validation], *begun(record))).folder
        for several in found.values()
        if len(several) > 1
    }


def begun(record: Record) -> tuple[str, str]:
    """By what runs with equal values are ordered: when they began."""
    return record.started or "", record.id


def _taught(records: Sequence[Record]) -> Sequence[Record]:
    return [record for record in records if not is_baseline(record)] or records


def _star_note(records: Sequence[Record], marks: set[Path], there: Columns) -> str:
    """What is marked: the best run of each command, for each data set where there are several."""
    marked = [record for record in records if record.folder in marks]
    commands = list(dict.fromkeys(record.command for record in marked))
    several = len({there.problems[record.folder] for record in marked}) > 1
    what = " and ".join(f"the best {command} run" for command in commands)
    note = f"{STAR} {what}{' on each data set' if several else ''} by {there.validation}"
    alone = any(is_baseline(record) for record in records) and not any(is_baseline(record) for record in marked)
    values = {(one.command, there.problems[one.folder], one.metrics[there.validation]) for one in marked}
    same = [
        one
        for one in records
        if one.folder not in marks
        and one.state == "finished"
        and (one.command, there.problems[one.folder], one.metrics.get(there.validation)) in values
    ]
    note += f"; {len(same)} more {'has' if len(same) == 1 else 'have'} the same value and began later" if same else ""
    return note + (f" ({AMONG})" if alone and "distill" in commands else "")


def to_terminal(
    records: Sequence[Record], console: Console, title: str, columns: Sequence[str] | None = None, fit: bool = True
) -> None:
    """Print with rich; every value as plain text, so that a name cannot style or steer the terminal.

    Where the whole does not fit, ids are cut to their hash, long texts are cut, and the columns that distinguish least
    are left out and named. Reasons are printed underneath.

    Args:
        columns: as :func:`rows` takes them; they are all shown.
        fit: whether to fit the width of the console; else a table that is too wide is for a pager.
    """
    there = Columns(records)
    asked = [there.key(name, "columns") for name in columns or ()]
    shown = asked or (default(there) if fit else wide(there))
    under = "reason" in shown and not asked
    shown = [name for name in shown if name != "reason" or asked]
    marks = best(records)
    cells = {name: [_cell(there.value(record, name), name) for record in records] for name in shown}
    left_out: list[str] = []
    if fit and not asked:
        if "id" in cells:
            cells["id"] = [shown_id(record.id) for record in records]
        cells = {name: [_cut(cell) for cell in column] for name, column in cells.items()}
        while _width(made := _table(there, records, cells, marks), console) > console.width:
            spare = _spare(there, list(cells))
            if spare is None:
                break
            left_out.append(there.heading(spare))
            del cells[spare]
    else:
        made = _table(there, records, cells, marks)
    console.width = max(console.width, _width(made, console))
    console.print(Text(title))
    notes = [_star_note(records, marks, there)] if marks else []
    if there.validation != there.test and {there.validation, there.test} <= set(cells):
        notes.append(f"val is {there.validation}, test is {there.test}")
    console.print(made)
    if left_out:
        notes.append(f"left out to fit: {', '.join(left_out[::-1])} (format=wide shows all)")
    if notes:
        console.print(Text("; ".join(notes)))
    for reason, ids in _reasons(records).items() if under else ():
        more = f" and {len(ids) - 4} more" if len(ids) > 4 else ""
        console.print(Text(f"{', '.join(ids[:4])}{more}: {reason}"))


def _spare(there: Columns, shown: Sequence[str]) -> str | None:
    """The column to leave out next: the seed, which is in the ids; keys that no command line names; then others."""
    asked = {word.split("=", 1)[0].lstrip("+~") for record in there.records for word in record.overrides}

    def distinguishes(key: str) -> tuple:
        return sum(there.value(record, key) is not None for record in there.records), -shown.index(key)

    keys = [key for key in shown if key in there.keys]
    quiet = [key for key in keys if not {key, key.removeprefix("choice."), f"model@{key[7:]}"} & asked]
    if "seed" in shown:
        return "seed"
    for names in (quiet, ["command", "seconds"], keys, ["data", there.validation]):
        left = [name for name in names if name in shown]
        if left:
            return min(left, key=distinguishes) if names in (quiet, keys) else left[0]
    return None


def _reasons(records: Sequence[Record]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for record in records:
        if record.reason:
            found.setdefault(record.reason, []).append(shown_id(record.id))
    return found


def _table(there: Columns, records: Sequence[Record], cells: dict[str, list[str]], marks: set[Path]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    if marks:
        table.add_column("", no_wrap=True)
    for name in cells:
        right = any(is_number(there.value(record, name)) for record in records)
        table.add_column(Text(there.heading(name)), justify="right" if right else "left", no_wrap=True)
    for index, record in enumerate(records):
        styles = {"state": COLOURS.get(record.state, "")}
        line = [Text(column[index], style=styles.get(name, "")) for name, column in cells.items()]
        table.add_row(*([Text(STAR if record.folder in marks else "")] if marks else []), *line)
    return table


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def to_csv(columns: Sequence[str], lines: Rows) -> str:
    """The rows as CSV; an empty cell is "not there". A text that a spreadsheet would compute begins with an apostrophe.

    Example:
        >>> to_csv(["label"], [{"label": "=1+1"}, {"label": -0.5}])
        "label\\n'=1+1\\n-0.5\\n"
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([plain(name) for name in columns])
    writer.writerows([[plain(line[name]) for name in columns] for line in lines])
    return stream.getvalue()


def plain(value: Any) -> Any:
    """A cell that a spreadsheet shows as it is: a text that begins like a formula gets an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(FORMULA) and number(value) is None:
        return "'" + value
    return value


def to_parquet(columns: Sequence[str], lines: Rows, file: Path) -> None:
    """The rows as parquet; a column that mixes numbers and texts is written as text."""
    import pyarrow
    from pyarrow import parquet

    def column(name: str) -> list[Any]:
        values = [line[name] for line in lines]
        kinds = {bool if isinstance(v, bool) else float if isinstance(v, (int, float)) else type(v) for v in values}
        return values if len(kinds - {type(None)}) <= 1 else [None if v is None else text(v) for v in values]

    parquet.write_table(pyarrow.table({name: pyarrow.array(column(name)) for name in columns}), file)


def _cut(value: str) -> str:
    return value if len(value) <= LONGEST else value[: LONGEST - 1] + "…"


def _cell(value: Any, name: str) -> str:
    if value is None:
        return ""
    if name == "seconds" or name.startswith(("model/", "perf/")):
        return figure(value, name)
    short = isinstance(value, float) and "/" in name and abs(value) < 10 and value != int(value)
    return f"{value:.4f}" if short else text(value)
