"""Writes rows with new columns beside their own: csv, tsv, jsonl or parquet, a chunk at a time.

What passes through is written as it was read, character for character: a csv that holds texts of strangers is data for
programs, and a spreadsheet may take a text that begins with = for a formula.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, final

import pyarrow as pa
from pyarrow import parquet

from kdlab.datamodule.chunk import Chunk
from kdlab.error import UserError

KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
Added = Mapping[str, Sequence[Any]]
TYPES = {str: pa.string(), float: pa.float64(), bool: pa.bool_(), list: pa.list_(pa.string())}


class Sink(ABC):
    """Takes chunk after chunk.

    Attributes:
        resumes: whether a file that was begun can be gone on with.
    """

    resumes = False

    @abstractmethod
    def write(self, chunk: Chunk, added: Added) -> None:
        """Write rows.

        Args:
            added: the new columns, by name: a value a row, None where there is none.
        """

    @abstractmethod
    def close(self) -> None: ...


def sink(
    path: Path, kind: str, new: Mapping[str, type], separator: str, schema: Callable[[], pa.Schema], size: int = 0
) -> Sink:
    """The writer of a kind of file to ``path``.

    Args:
        kind: the extension.
        new: the type of each new column: str, float, bool, or list of texts.
        separator: between the values of a list in a csv.
        schema: gives the types of the columns that pass through, where they are needed.
        size: bytes of a file that was begun, after which to continue.
    """
    if kind == ".parquet":
        return ParquetSink(path, schema(), new)
    file = path.open("r+b" if size else "wb")
    file.truncate(size)
    file.seek(size)
    return JsonSink(file) if kind in (".jsonl", ".ndjson") else TextSink(file, kind, separator, header=not size)


def check_kind(path: Path) -> str:
    """The extension of a file to write. Errors: UserError where it is none of those that can be written."""
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise UserError(f"file={path} ends in '{kind}', and can be {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    return kind


@final
class TextSink(Sink):
    """A csv or tsv with a header; an empty cell is "not there", and a list is its values with a separator between."""

    resumes = True

    def __init__(self, file: IO[bytes], kind: str, separator: str, header: bool = True) -> None:
        self.file, self.between = file, separator
        self.comma = "\t" if kind == ".tsv" else ","
        self.header = header

    def write(self, chunk: Chunk, added: Added) -> None:
        if self.header:
            self._line([*chunk.names, *added])
            self.header = False
        for row, *values in zip(chunk.cells(), *added.values(), strict=True):
            self._line([*row, *map(self._text, values)])
        self.file.flush()

    def _text(self, value: Any) -> str:
        return "" if value is None else self.between.join(value) if isinstance(value, list) else str(value)

    def _line(self, cells: Sequence[str]) -> None:
        line = self.comma.join(quoted(cell, self.comma) for cell in cells)
        self.file.write(f"{line}\n".encode("utf-8", "replace"))

    def close(self) -> None:
        self.file.flush()


@final
class JsonSink(Sink):
    """A JSON object a line."""

    resumes = True

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def write(self, chunk: Chunk, added: Added) -> None:
        for row, *values in zip(chunk.records(), *added.values(), strict=True):
            self.file.write((_json(row | dict(zip(added, values, strict=True))) + "\n").encode("utf-8"))
        self.file.flush()

    def close(self) -> None:
        self.file.flush()


@final
class ParquetSink(Sink):
    """A parquet file; the columns keep their types."""

    def __init__(self, path: Path, schema: pa.Schema, new: Mapping[str, type]) -> None:
        self.schema = schema
        self.types = {name: TYPES[kind] for name, kind in new.items()}
        self.writer = parquet.ParquetWriter(path, pa.schema([*schema, *self.types.items()]))

    def write(self, chunk: Chunk, added: Added) -> None:
        table = chunk.arrow(self.schema)
        for name, values in added.items():
            table = table.append_column(name, pa.array(values, self.types[name]))
        self.writer.write_table(table.cast(self.writer.schema))

    def close(self) -> None:
        self.writer.close()


def quoted(text: str, separator: str) -> str:
    """A field of a csv, in double quotes where it has to be.

    Example:
        >>> quoted('a "b" c', ",")
        '"a ""b"" c"'
    """
    if not any(char in text for char in (separator, '"', "\r", "\n")):
        return text
    return '"' + text.replace('"', '""') + '"'


def _json(row: dict[str, Any]) -> str:
    def other(value: Any) -> Any:
        if isinstance(value, (bytes, bytearray)):
            raise UserError("a column holds bytes, which jsonl cannot hold: write to a .parquet file")
        return str(value)

    text = json.dumps(row, ensure_ascii=False, default=other)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates, which can only be written as an escape
        return json.dumps(row, default=other)
    return text
