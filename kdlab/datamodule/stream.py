"""The rows of a file of any length, a chunk at a time, so that memory does not grow with the file.

A file is looked through once before its first row is given out: what cannot be read is refused before any work is done.
Every file that a data set of one's own may be is read, by the same rules: :mod:`kdlab.datamodule.frame` reads it whole.
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, final

import pyarrow as pa
from pyarrow import parquet

from kdlab.datamodule import cell, delimited, objects
from kdlab.datamodule.chunk import Chunk, Fields, Records, Typed
from kdlab.datamodule.encoding import unusable
from kdlab.datamodule.frame import column_of, dropped, whole
from kdlab.datamodule.source import Source, readable
from kdlab.error import UserError

ROWS = 1024  # that are in memory at a time, where nothing else is asked for


class Stream(ABC):
    """A file of rows.

    Attributes:
        where: its name in messages.
        unit: the unit of its row numbers: ``line`` or ``row``.
        names: of its columns, without spaces around them.
        total: number of rows; None where it is known only after reading to the end.
        notices: sentences about how it is read, for its user.
        separator: between the fields of a csv.
    """

    where: str
    unit: str
    names: Sequence[str]
    total: int | None
    notices: Sequence[str] = ()
    separator: str | None = None

    @abstractmethod
    def chunks(self, size: int = ROWS, skip: int = 0) -> Iterator[Chunk]:
        """All rows after the first ``skip``, at most ``size`` at a time."""

    def number(self, name: str, option: str) -> int:
        """The number of the column with a name. Errors: UserError where there is none, or more than one.

        Args:
            option: the config key of the name.
        """
        return column_of(name, self.names, self.where, option, self.separator)

    def texts(self, chunk: Chunk, number: int) -> list[str]:
        """The texts of a column, by the rules of :mod:`kdlab.datamodule.cell`; empty where there is none.

        Raises:
            UserError: a row has something else, or half a character; the message names the row.
        """

        def message(index: int, found: str) -> str:
            where_in_file = f"{self.where}: {self.unit} {chunk.lines[index]}"
            return f"{where_in_file} has {found} in the column '{self.names[number]}', which must have a text"

        return [text or "" for text in cell.each(chunk.column(number), _text, message)]

    def check(self, numbers: Sequence[int]) -> None:
        """Read columns of texts to the end. Errors: as :meth:`texts`."""
        for chunk in self.chunks():
            for number in numbers:
                self.texts(chunk, number)

    def schema(self) -> pa.Schema:
        """The types of all columns for a parquet file; they are looked for in all rows.

        Raises:
            UserError: a column has values of several types.
        """
        parts = [pa.schema([])]
        for chunk in self.chunks():
            try:
                parts = [pa.unify_schemas([*parts, chunk.arrow(None).schema], promote_options="permissive")]
            except (pa.ArrowInvalid, pa.ArrowTypeError) as problem:
                raise UserError(
                    f"{self.where}: a column has values of several types ({' '.join(str(problem).split())}), which "
                    "parquet cannot hold: write to a .jsonl file"
                ) from problem
        return pa.schema([pa.field(one.name, pa.string()) if pa.types.is_null(one.type) else one for one in parts[0]])


def _text(value: Any) -> str | None:
    found = cell.text(value)
    if found is not None and not found.isascii():
        try:
            found.encode()
        except UnicodeEncodeError:
            raise ValueError("half a character (a lone surrogate)") from None
    return found


def stream(source: Source) -> Stream:
    """The rows of a file.

    Raises:
        UserError: a row cannot be read, which the message names.
    """
    with readable(source):
        match source.kind:
            case "csv" | "tsv":
                return Delimited(source)
            case "jsonl" | "json" if objects.has_one_a_line(source.lines()):
                return Lines(source)
            case "parquet":
                return Parquet(source)
        return Whole(source)


@final
class Delimited(Stream):
    """A csv or tsv with a header."""

    unit = "line"

    def __init__(self, source: Source) -> None:
        self.source, self.where, self.separator = source, source.where, source.separator
        found, notices = delimited.reading(source.lines, source.separator, option=f"{source.prefix}separator")
        self.names, self.total, self.quoted = found.names, found.count, found.quoted
        self.notices = [*notices, dropped(found.blank)] if found.blank else notices

    def chunks(self, size: int = ROWS, skip: int = 0) -> Iterator[Chunk]:
        with readable(self.source):
            every = delimited.rows(self.source.lines(), self.source.separator, self.quoted)
            full = ((line, row[: len(self.names)]) for line, row in every if row)
            yield from cut(islice(full, 1 + skip, None), size, lambda lines, rows: Fields(self.names, lines, rows))

    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self.names])


@final
class Lines(Stream):
    """A JSON object a line."""

    unit = "line"

    def __init__(self, source: Source) -> None:
        self.source, self.where = source, source.where
        keys: dict[str, None] = {}
        self.total = 0
        for _, row in objects.by_line(source.lines()):
            keys |= dict.fromkeys(row)
            self.total += 1
        self.keys, self.names = list(keys), [key.strip() for key in keys]

    def chunks(self, size: int = ROWS, skip: int = 0) -> Iterator[Chunk]:
        with readable(self.source):
            every = islice(objects.by_line(self.source.lines()), skip, None)
            yield from cut(every, size, lambda lines, rows: Records(self.names, lines, rows, self.keys))


@final
class Parquet(Stream):
    """A parquet file."""

    unit = "row"

    def __init__(self, source: Source) -> None:
        self.source, self.where = source, source.where
        self.file = parquet.ParquetFile(pa.BufferReader(source.content()) if source.packed else source.path)
        self.names = [name.strip() for name in self.file.schema_arrow.names]
        self.total = self.file.metadata.num_rows
        if not self.names:
            raise UserError(f"{self.where} has no columns")

    def chunks(self, size: int = ROWS, skip: int = 0) -> Iterator[Chunk]:
        done = 0
        with readable(self.source):
            for batch in self.file.iter_batches(size):
                first, done = max(done, skip), done + batch.num_rows
                if first < done:
                    yield Typed(self.names, range(first + 1, done + 1), batch.slice(batch.num_rows - (done - first)))

    def schema(self) -> pa.Schema:
        return self.file.schema_arrow


@final
class Whole(Stream):
    """A file that can only be read at once: one JSON array, or a sheet of Excel."""

    def __init__(self, source: Source) -> None:
        self.frame = whole(source)
        self.where, self.unit, self.names = self.frame.where, self.frame.unit, self.frame.names
        self.total, self.notices = len(self.frame), self.frame.notices

    def chunks(self, size: int = ROWS, skip: int = 0) -> Iterator[Chunk]:
        for start in range(skip, len(self.frame), size):
            part = slice(start, start + size)
            columns = [[None if value == "" else value for value in one[part]] for one in self.frame.columns]
            rows = [dict(zip(self.names, row, strict=True)) for row in zip(*columns, strict=True)]
            yield Records(self.names, [int(line) for line in self.frame.lines[part]], rows, self.names)


@final
class Piped(Stream):
    """A row a line from a pipe; as many lines at a time as there are, so that each is answered at once.

    Args:
        read: gives the next bytes, and none at the end.
        names: of the columns: where there are several, a line has a text for each, with ``separator`` between.
        encoding: of the text; None: UTF-8.
    """

    unit = "line"
    where = "standard input"
    total = None

    def __init__(
        self, read: Callable[[], bytes], names: Sequence[str], separator: str = "\t", encoding: str | None = None
    ) -> None:
        self.read, self.names, self.between, self.encoding = read, names, separator, encoding
        try:
            self.decoder = codecs.getincrementaldecoder(encoding or "utf-8")()
        except LookupError as problem:
            raise unusable(encoding, "") from problem

    def chunks(self, size: int = ROWS, skip: int = 0) -> Iterator[Chunk]:
        rest, done = "", 0
        for block in chain(iter(self.read, b""), [b""]):
            *lines, rest = (rest + self._decoded(block, done)).split("\n")
            if not block and rest:
                lines = [*lines, rest]
            for start in range(0, len(lines), size):
                part = lines[start : start + size]
                rows = [self._row(line.removesuffix("\r"), done + index) for index, line in enumerate(part, 1)]
                yield Fields(self.names, range(done + 1, done + len(part) + 1), rows)
                done += len(part)

    def check(self, numbers: Sequence[int]) -> None:
        """Nothing: a pipe can be read only once."""

    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self.names])

    def _decoded(self, block: bytes, done: int) -> str:
        try:
            return self.decoder.decode(block, final=not block)
        except UnicodeError as problem:
            raise UserError(
                f"{self.where} is not {self.encoding or 'UTF-8'} in line {done + 1} or soon after: set encoding, such "
                "as encoding=latin-1"
            ) from problem

    def _row(self, line: str, number: int) -> list[str]:
        if len(self.names) == 1:
            return [line]
        row = line.split(self.between)
        if len(row) != len(self.names):
            named = "'\\t'" if self.between == "\t" else f"'{self.between}'"
            raise UserError(
                f"{self.where}: line {number} has {len(row)} text{'s' * (len(row) != 1)}, and the run reads "
                f"{len(self.names)} ({', '.join(self.names)}): put {named} between them, or set separator"
            )
        return row


def cut(rows: Iterable[tuple[int, Any]], size: int, made: Callable[[list[int], list[Any]], Chunk]) -> Iterator[Chunk]:
    """Rows with their lines, ``size`` at a time."""
    each = iter(rows)
    while part := list(islice(each, size)):
        yield made([line for line, _ in part], [row for _, row in part])
