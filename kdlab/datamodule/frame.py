"""Files of rows: csv, tsv, jsonl, json, parquet and xlsx, plain or compressed, each row with its line in the file."""

from __future__ import annotations

import gc
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kdlab.datamodule import delimited, objects
from kdlab.datamodule.source import Source, readable
from kdlab.error import UserError


@dataclass(frozen=True)
class Frame:
    """Columns of a table.

    Attributes:
        where: its name in messages.
        unit: the unit of its row numbers: ``line`` of the file, or ``row``.
        names: of the columns.
        columns: ``[N]`` cells each.
        lines: ``[N]``, the line of each row.
        notices: sentences about how it was read, for its user.
        separator: between the fields of a csv.
    """

    where: str
    unit: str
    names: Sequence[str]
    columns: Sequence[Sequence[Any]]
    lines: Sequence[int | str]
    notices: list[str] = field(default_factory=list)
    separator: str | None = None

    def __len__(self) -> int:
        return len(self.lines)

    def row_name(self, index: int) -> str:
        """The name of a row in messages: ``line 61``."""
        return f"{self.unit} {self.lines[index]}"

    def column(self, name: Any, option: str) -> Sequence[Any]:
        """The cells of a column.

        Args:
            name: its name, of whatever type.
            option: the config key of the name.

        Raises:
            UserError: there is none of that name, or more than one.
        """
        return self.columns[column_of(str(name), self.names, self.where, f"datamodule.{option}", self.separator)]

    def without_empty(self) -> Frame:
        """The rows that have something in any column; a notice counts the others."""
        full = [index for index, row in enumerate(zip(*self.columns, strict=True)) if any(map(_something, row))]
        if len(full) == len(self):
            return self
        gone = len(self) - len(full)
        columns = [[column[index] for index in full] for column in self.columns]
        lines = [self.lines[index] for index in full]
        return Frame(self.where, self.unit, self.names, columns, lines, [*self.notices, dropped(gone)], self.separator)


def column_of(name: str, names: Sequence[str], where: str, option: str, separator: str | None) -> int:
    """The number of the column with a name.

    Args:
        names: of all columns.
        where: its name in messages.
        option: the config key of the name.
        separator: between the fields of a csv; None: it is none.

    Raises:
        UserError: there is none of that name, or more than one.

    Example:
        >>> column_of("text", ["id", "text"], "a.csv", "text_column", ",")
        1
    """
    found = [number for number, one in enumerate(names) if one == name]
    if len(found) > 1:
        raise UserError(f"{where} has {len(found)} columns named '{name}': rename all but one")
    if not found:
        raise UserError(f"{option}='{name}' is not in {where}, which has: {_there(name, names, option, separator)}")
    return found[0]


def _there(name: str, names: Sequence[str], option: str, separator: str | None) -> str:
    there = ", ".join(names)[:300]
    place, _, key = option.rpartition(".")
    if wrong := delimited.other(names, separator, f"{place}.separator" if place else "separator"):
        return f"{there}; {wrong}"
    there = f"{there} (the header, its first line)" if separator else there
    folded = {one.lower(): one for one in reversed(names)}
    if near := get_close_matches(name.strip().lower(), list(folded), n=1, cutoff=0.6):
        return f"{there}; did you mean '{folded[near[0]]}'?"
    if not names or not key.endswith("_column"):
        return there
    nothing = ", or to null if no row has a label" if key == "label_column" else ""
    return f"{there}: set {option} to one of them{nothing}"


def dropped(count: int) -> str:
    return f"{count:,} empty row{'s were' if count > 1 else ' was'} left out"


def _something(value: Any) -> bool:
    if type(value) is str:
        return not (value == "" or value.isspace())
    return value is not None and value == value if isinstance(value, (float, type(None))) else True


def read(path: Path, where: str | None = None, encoding: str | None = None, separator: str | None = None) -> Frame:
    """The rows of a file, by its extension; ``.gz`` after it where it is compressed.

    Args:
        where: its name in messages; None: its path.
        encoding: of its text; None: UTF-8.
        separator: between the fields of a csv; None: a comma, or for a tsv a tab.

    Raises:
        UserError: no such file, another extension, or another format than its extension's.
    """
    return whole(Source(path, where or str(path), encoding, separator))


def whole(source: Source) -> Frame:
    """All rows of a file. Errors: as :func:`read`."""
    collects = gc.isenabled()
    gc.disable()  # it would look at each of the many rows again and again, none of which it could free
    try:
        with readable(source):
            match source.kind:
                case "csv" | "tsv":
                    return _csv(source.text(), source.where, source.separator, f"{source.prefix}separator")
                case "jsonl" | "json":
                    unit, names, columns, lines = objects.table(source.text())
                    return Frame(source.where, unit, names, columns, lines)
                case "parquet":
                    return _parquet(source.content(), source.where)
                case _:
                    return _excel(source.content(), source.where)
    finally:
        if collects:
            gc.enable()


def _csv(text: str, where: str, separator: str, option: str) -> Frame:
    found, notices = delimited.table(text, separator, option)
    columns = [list(column) for column in zip(*found.rows, strict=True)] or [[] for _ in found.names]
    if found.blank:
        notices = [*notices, dropped(found.blank)]
    return Frame(where, "line", found.names, columns, found.lines, notices, separator)


def _parquet(content: bytes, where: str) -> Frame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = pq.read_table(pa.BufferReader(content))
    if len(content) and found.num_columns == 0:
        raise ValueError("it has no columns")
    columns = [column.to_pylist() for column in found.columns]
    return Frame(where, "row", [str(name).strip() for name in found.column_names], columns, range(1, len(found) + 1))


def _excel(content: bytes, where: str) -> Frame:
    """The first sheet; its rows have the numbers that Excel shows."""
    import pandas as pd

    try:
        found = pd.read_excel(io.BytesIO(content), header=None, dtype=object, na_filter=False, engine="openpyxl")
    except ImportError as problem:
        raise UserError(
            f"{where}: reading .xlsx needs openpyxl: pip install 'kdlab[excel]', or save it as .csv"
        ) from problem
    except Exception as problem:  # openpyxl raises KeyError, BadZipFile, InvalidFileException … for what is no workbook
        raise ValueError(f"it is no Excel workbook ({type(problem).__name__})") from problem
    rows = found.to_numpy().tolist()
    if not rows:
        raise ValueError("it is empty")
    head = ["" if name is None else str(name).strip() for name in rows[0]]
    columns = [list(column) for column in zip(*rows[1:], strict=True)] or [[] for _ in head]
    return Frame(where, "row", head, columns, range(2, len(rows) + 1)).without_empty()
