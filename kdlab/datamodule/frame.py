"""Files of rows: csv, tsv, jsonl, json, parquet and xlsx, plain or compressed, each row with the line it stands in."""

from __future__ import annotations

import gc
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdlab.datamodule import delimited
from kdlab.datamodule.encoding import decode
from kdlab.error import UserError

KINDS = {
    ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet",
    ".xlsx": "xlsx",
}  # fmt: skip
LIKELY = (";", "\t", "|", ",")


@dataclass(frozen=True)
class Frame:
    """Columns of a table.

    Attributes:
        where: what to call it in a message.
        unit: what its rows are counted by: ``line`` of the file, or ``row``.
        names: of the columns.
        columns: ``[N]`` cells each.
        lines: ``[N]``, where each row stands.
        notices: what is to be said about how it was read.
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

    def place(self, index: int) -> str:
        """Where a row stands: ``line 61``."""
        return f"{self.unit} {self.lines[index]}"

    def column(self, name: Any, option: str) -> Sequence[Any]:
        """The cells of a column.

        Args:
            name: its name, of whatever type.
            option: the key that says so.

        Raises:
            UserError: there is none of that name, or more than one.
        """
        found = [number for number, one in enumerate(self.names) if one == str(name)]
        if len(found) > 1:
            raise UserError(f"{self.where} has {len(found)} columns named '{name}': rename all but one")
        if not found:
            raise UserError(f"datamodule.{option}='{name}' is not in {self.where}, which has: {self._there(str(name))}")
        return self.columns[found[0]]

    def _there(self, name: str) -> str:
        there = ", ".join(self.names)[:300]
        near = [one for one in self.names if one.lower() == name.strip().lower()]
        if near:
            return f"{there}; did you mean '{near[0]}'?"
        other = [mark for mark in LIKELY if self.separator not in (None, mark) and mark in self.names[0]]
        if len(self.names) == 1 and other:
            word = "'\\t'" if other[0] == "\t" else f"'{other[0]}'"
            return f"{there}; if that is what stands between its fields, set datamodule.separator={word}"
        return f"{there} (the header, its first line)" if self.separator else there

    def without_empty(self) -> Frame:
        """The rows that have something in any column; a notice counts the others."""
        full = [index for index, row in enumerate(zip(*self.columns, strict=True)) if any(map(_something, row))]
        if len(full) == len(self):
            return self
        gone = len(self) - len(full)
        columns = [[column[index] for index in full] for column in self.columns]
        lines = [self.lines[index] for index in full]
        return Frame(self.where, self.unit, self.names, columns, lines, [*self.notices, dropped(gone)], self.separator)


def dropped(count: int) -> str:
    return f"{count:,} empty row{'s were' if count > 1 else ' was'} left out"


def _something(value: Any) -> bool:
    if type(value) is str:
        return not (value == "" or value.isspace())
    return value is not None and value == value if isinstance(value, (float, type(None))) else True


def read(path: Path, where: str | None = None, encoding: str | None = None, separator: str | None = None) -> Frame:
    """The rows of a file, by its extension; ``.gz`` after it where it is compressed.

    Args:
        where: what to call it in a message; None: its path.
        encoding: of its text; None: UTF-8.
        separator: between the fields of a csv; None: a comma, or for a tsv a tab.

    Raises:
        UserError: no such file, another extension, or not what the extension says.
    """
    where = where or str(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    last = suffixes[-2 if packed else -1] if len(suffixes) > packed else ""
    if not path.is_file():
        raise UserError(f"datamodule.path: there is no file {path}")
    if last not in KINDS:
        raise UserError(
            f"datamodule.path: {where} ends in '{last}', and can be .csv, .tsv, .jsonl, .ndjson, .json, .parquet or "
            ".xlsx, each also with .gz"
        )
    kind = KINDS[last]
    collects = gc.isenabled()
    gc.disable()  # it would look at each of the many rows again and again, none of which it could free
    try:
        content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        match kind:
            case "csv" | "tsv":
                return _csv(decode(content, encoding, where), where, _separator(separator, kind))
            case "jsonl" | "json":
                return _json(decode(content, encoding, where), where)
            case "parquet":
                return _parquet(content, where)
            case _:
                return _excel(content, where)
    except (ValueError, OSError, EOFError, zlib.error, RecursionError) as error:
        # what pyarrow, openpyxl and json raise about content are all ValueErrors or OSErrors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{where} cannot be read as {kind}: {reason}") from error
    finally:
        if collects:
            gc.enable()


def _separator(given: str | None, kind: str) -> str:
    if given is None:
        return "\t" if kind == "tsv" else ","
    mark = "\t" if given in ("\\t", "tab") else str(given)
    if len(mark) != 1 or mark in '"\r\n':
        raise UserError(f"datamodule.separator='{given}' must be one character, such as ';', '|' or '\\t'")
    return mark


def _csv(text: str, where: str, separator: str) -> Frame:
    found, notices = delimited.table(text, separator)
    columns = [list(column) for column in zip(*found.rows, strict=True)] or [[] for _ in found.names]
    if found.blank:
        notices = [*notices, dropped(found.blank)]
    return Frame(where, "line", found.names, columns, found.lines, notices, separator)


def _json(text: str, where: str) -> Frame:
    """Objects, one a line; or one array of objects; or an object of columns, as pandas writes it."""
    start = text.lstrip()[:1]
    if start == "[":
        return _objects(json.loads(text, object_pairs_hook=_pairs), None, where)
    rows: list[Any] = []
    lines: list[int] = []
    try:
        for number, line in enumerate(text.split("\n"), 1):
            if line and not line.isspace():
                lines.append(number)
                rows.append(json.loads(line, object_pairs_hook=_pairs))
    except ValueError as problem:
        whole = _whole(text) if len(lines) == 1 else None
        if whole is None:
            raise ValueError(f"line {lines[-1]}: {problem}") from problem
        return _columns(whole, where)
    if len(rows) == 1 and isinstance(rows[0], dict) and all(isinstance(one, (list, dict)) for one in rows[0].values()):
        return _columns(rows[0], where)
    return _objects(rows, lines, where)


def _whole(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text, object_pairs_hook=_pairs)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _columns(found: dict[str, Any], where: str) -> Frame:
    rows = next(iter(found.values())) if len(found) == 1 else None
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return _objects(rows, None, where)
    columns = [list(one.values()) if isinstance(one, dict) else one for one in found.values()]
    if not columns or not all(isinstance(one, list) and len(one) == len(columns[0]) for one in columns):
        raise ValueError("it must be an object a line, an array of objects, or an object of columns of one length")
    keys = {json.dumps(list(one)) for one in found.values() if isinstance(one, dict)}
    if len(keys) > 1:
        raise ValueError("its columns have different rows")
    return Frame(where, "row", [name.strip() for name in found], columns, range(1, len(columns[0]) + 1))


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a name twice")
    return found


def _objects(rows: Iterable[Any], lines: Sequence[int] | None, where: str) -> Frame:
    rows = list(rows)
    unit = "row" if lines is None else "line"
    lines = lines or range(1, len(rows) + 1)
    names: dict[str, None] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            shown = json.dumps(row, ensure_ascii=False)[:40]
            raise ValueError(f'{unit} {lines[index]} is {shown}, and must be an object such as {{"text": "…"}}')
        names |= dict.fromkeys(row)
    columns = [[row.get(name) for row in rows] for name in names]
    return Frame(where, unit, [name.strip() for name in names], columns, lines)


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
