"""The rows of a file of any length, a chunk at a time, so that memory does not grow with the file.

A file is looked through once before its first row is given out: what cannot be read is refused before any work is done.
"""

from __future__ import annotations

import csv
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, final

import pyarrow as pa
from pyarrow import parquet

from kdlab.error import UserError

BARE = "\udc0d"  # stands for a carriage return within a line; no decoded text holds a lone surrogate
KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


class Chunk(ABC):
    """Some rows of a file, with all their columns."""

    columns: list[str]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def column(self, name: str) -> list[Any]:
        """The values of a column; None where a row has none."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """A mapping a row."""

    @abstractmethod
    def arrow(self, schema: pa.Schema | None) -> pa.Table:
        """A table, with the types of ``schema`` where there is one."""

    def cells(self) -> list[list[str]]:
        """The values as text, by row, in the order of ``columns``; those that are no text are written as JSON."""
        return [[_cell(record.get(name)) for name in self.columns] for record in self.records()]


@final
@dataclass(frozen=True)
class Fields(Chunk):
    """Rows of texts, as a csv has them."""

    columns: list[str]
    rows: list[list[str]]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Any]:
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def arrow(self, schema: pa.Schema | None) -> pa.Table:
        values = [pa.array([row[place] for row in self.rows], pa.string()) for place in range(len(self.columns))]
        return pa.table(values, names=self.columns)

    def cells(self) -> list[list[str]]:
        return self.rows


@final
@dataclass(frozen=True)
class Records(Chunk):
    """Rows of named values, as a jsonl has them."""

    columns: list[str]
    rows: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        return self.rows

    def arrow(self, schema: pa.Schema | None) -> pa.Table:
        try:
            return pa.Table.from_pylist(self.rows, schema) if schema else pa.Table.from_pylist(self.rows)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as problem:
            reason = " ".join(str(problem).split())
            raise UserError(
                f"a column of the jsonl has values of several types ({reason}), which parquet cannot hold: write to "
                "a .jsonl file"
            ) from problem


@final
@dataclass(frozen=True)
class Typed(Chunk):
    """Rows of a parquet file."""

    batch: pa.RecordBatch

    @property
    def columns(self) -> list[str]:  # type: ignore[override]
        return list(self.batch.schema.names)

    def __len__(self) -> int:
        return self.batch.num_rows

    def column(self, name: str) -> list[Any]:
        return self.batch.column(self.batch.schema.get_field_index(name)).to_pylist()

    def records(self) -> list[dict[str, Any]]:
        return self.batch.to_pylist()

    def arrow(self, schema: pa.Schema | None) -> pa.Table:
        return pa.Table.from_batches([self.batch])


class Stream(ABC):
    """A file of rows.

    Attributes:
        columns: their names.
        total: how many rows there are; None where only reading to the end tells.
    """

    columns: list[str]
    total: int | None

    @abstractmethod
    def chunks(self, size: int, skip: int = 0) -> Iterator[Chunk]:
        """All rows after the first ``skip``, at most ``size`` at a time."""


def stream(path: Path, encoding: str = "utf-8") -> Stream:
    """The rows of a csv, tsv, jsonl or parquet file.

    Raises:
        UserError: no such file, another extension, or a row that cannot be read, which the message names.
    """
    if not path.is_file():
        raise UserError(f"path: there is no file {path}")
    match path.suffix.lower():
        case ".csv":
            return Delimited(path, ",", encoding)
        case ".tsv":
            return Delimited(path, "\t", encoding)
        case ".jsonl" | ".ndjson":
            return Lines(path, encoding)
        case ".parquet":
            return Parquet(path)
    raise UserError(f"path: {path} ends in '{path.suffix}', and can be {', '.join(KINDS[:-1])} or {KINDS[-1]}")


@final
class Delimited(Stream):
    """A csv or tsv with a header. A field in double quotes may hold separators and line breaks.

    Where quotes cannot be meant so, but each line has as many fields as the header, they are plain characters.
    """

    def __init__(self, path: Path, separator: str, encoding: str = "utf-8") -> None:
        self.path, self.separator, self.encoding = path, separator, encoding
        self.quoted = True
        try:
            self.total = self._look()
        except UserError:
            self.quoted = False
            try:
                self.total = self._look()
            except UserError:
                self.quoted = True
                self._look()  # tells what is wrong
                raise

    def _look(self) -> int:
        """How many rows there are.

        Raises:
            UserError: one has not as many fields as the header.
        """
        rows = self._rows()
        try:
            names = next(rows)[1]
        except StopIteration:
            raise UserError(f"{self.path} is empty: it has no header") from None
        self.columns = [name.strip() for name in names]
        while self.columns and not self.columns[-1]:
            self.columns.pop()
        if len(set(self.columns)) < len(self.columns):
            twice = next(name for name in self.columns if self.columns.count(name) > 1)
            raise UserError(f"{self.path} has two columns named '{twice}': rename one")
        count = 0
        for count, (line, row) in enumerate(rows, 1):
            if len(row) < len(self.columns) or any(field.strip() for field in row[len(self.columns) :]):
                raise UserError(
                    f"{self.path}: row {count} (line {line}) has {len(row)} fields, and the header has "
                    f"{len(self.columns)}: put a text that holds a separator or a line break in double quotes"
                )
        return count

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The line that each row begins in, and its fields; the header is the first."""
        with opened(self.path, self.encoding) as file:
            reader = csv.reader(
                map(_marked, file), delimiter=self.separator, strict=True,
                quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            )  # fmt: skip
            start, limit = 1, csv.field_size_limit(sys.maxsize)
            try:
                for row in reader:
                    if row:
                        yield start, [field.replace(BARE, "\r") for field in row]
                    start = reader.line_num + 1
            except csv.Error as problem:
                raise UserError(f"{self.path}: line {start} cannot be read ({problem}): mend its quotes") from problem
            except UnicodeDecodeError as problem:
                raise _undecodable(self.path, self.encoding, problem) from problem
            finally:
                csv.field_size_limit(limit)

    def chunks(self, size: int, skip: int = 0) -> Iterator[Chunk]:
        rows = self._rows()
        next(rows)
        held: list[list[str]] = []
        for number, (_, row) in enumerate(rows):
            if number >= skip:
                held.append(row[: len(self.columns)])
            if len(held) == size:
                yield Fields(self.columns, held)
                held = []
        if held:
            yield Fields(self.columns, held)


@final
class Lines(Stream):
    """A jsonl: a JSON object a line."""

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        self.path, self.encoding = path, encoding
        names: dict[str, None] = {}
        self.total = 0
        for row in self._rows():
            names |= dict.fromkeys(row)
            self.total += 1
        self.columns = list(names)
        if not self.total:
            raise UserError(f"{path} is empty")

    def _rows(self) -> Iterator[dict[str, Any]]:
        with opened(self.path, self.encoding) as file:
            try:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError) as problem:
                        reason = str(problem).split(":")[0]
                        raise UserError(f"{self.path}: line {number} is no JSON ({reason}): mend it") from problem
                    if not isinstance(row, dict):
                        raise UserError(f"{self.path}: line {number} is no JSON object in braces: mend it")
                    yield row
            except UnicodeDecodeError as problem:
                raise _undecodable(self.path, self.encoding, problem) from problem

    def chunks(self, size: int, skip: int = 0) -> Iterator[Chunk]:
        held: list[dict[str, Any]] = []
        for number, row in enumerate(self._rows()):
            if number >= skip:
                held.append(row)
            if len(held) == size:
                yield Records(self.columns, held)
                held = []
        if held:
            yield Records(self.columns, held)


@final
class Parquet(Stream):
    """A parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = parquet.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as problem:
            raise UserError(f"{path} cannot be read as parquet: {' '.join(str(problem).split())}") from problem
        self.columns = list(self.file.schema_arrow.names)
        self.total = self.file.metadata.num_rows

    def chunks(self, size: int, skip: int = 0) -> Iterator[Chunk]:
        try:
            for batch in self.file.iter_batches(size):
                left, skip = max(0, batch.num_rows - skip), max(0, skip - batch.num_rows)
                if left:
                    yield Typed(batch.slice(batch.num_rows - left))
        except (pa.ArrowInvalid, OSError) as problem:
            raise UserError(f"{self.path} cannot be read as parquet: {' '.join(str(problem).split())}") from problem


@final
class Piped(Stream):
    """A text a line from a pipe; as many lines at a time as there are, so that each is answered at once.

    Args:
        read: gives the next bytes, and none at the end.
    """

    columns = ["text"]  # noqa: RUF012
    total = None

    def __init__(self, read: Any) -> None:
        self.read = read

    def chunks(self, size: int, skip: int = 0) -> Iterator[Chunk]:
        rest = b""
        while more := self.read():
            *whole, rest = (rest + more).split(b"\n")
            yield from self._cut(whole, size)
        yield from self._cut([rest] if rest else [], size)

    def _cut(self, lines: list[bytes], size: int) -> Iterator[Chunk]:
        for start in range(0, len(lines), size):
            part = lines[start : start + size]
            yield Fields(self.columns, [[line.decode("utf-8", "replace").rstrip("\r")] for line in part])


def opened(path: Path, encoding: str) -> IO[str]:
    """A text file whose lines end at a line feed alone; a mark at its start is left out."""
    try:
        return path.open(encoding="utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding, newline="\n")
    except LookupError as problem:
        raise UserError(f"encoding={encoding} is not known: give a name such as utf-8, latin-1 or gb18030") from problem


def _marked(line: str) -> str:
    """A line with another character for the carriage returns in its middle, which csv would take for its end."""
    if "\r" not in line:
        return line
    ending = "\r\n" if line.endswith("\r\n") else "\n" if line.endswith("\n") else ""
    return line.removesuffix(ending).replace("\r", BARE) + ending


def _undecodable(path: Path, encoding: str, problem: UnicodeDecodeError) -> UserError:
    byte = problem.object[problem.start]
    return UserError(f"{path} is not {encoding} (byte 0x{byte:02x}): set encoding=latin-1, gb18030, utf-16 or another")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list, bool)) else str(value)
