"""Csv and tsv: fields between separators, in double quotes where they hold one; no field is moved or swallowed."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

BARE = "\udc0d"  # replaces a carriage return within a line, which csv would take for its end
WITHIN = re.compile(r"\r(?!\n)(?!\r*\Z)")

LIKELY = (";", "\t", "|", ",")  # separators

csv.field_size_limit(sys.maxsize)  # a text may be longer than 131,072 characters


@dataclass
class Parsed:
    """The rows of a file under one reading of its quotes.

    Attributes:
        quoted: whether quotes enclose fields; False: they are plain characters.
        names: the header, without what follows the last name.
        count: number of rows with any field.
        rows: the fields of each, where they are kept.
        lines: the line at which each of ``rows`` begins, from 1.
        blank: number of empty lines between rows.
        problem: why this reading cannot be the right one; None: it may be.
        marks: whether there is any quote.
        tall: rows that hold lines which could be rows of their own: first line, height and the fields of these lines.
        enclosed: by column, how many fields have a quote at both ends, where quotes are plain characters.
    """

    quoted: bool
    names: list[str] = field(default_factory=list)
    count: int = 0
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    blank: int = 0
    problem: str | None = None
    marks: bool = False
    tall: list[tuple[int, int, list[list[str]]]] = field(default_factory=list)
    enclosed: list[int] = field(default_factory=list)


def table(text: str, separator: str, option: str = "datamodule.separator") -> tuple[Parsed, list[str]]:
    """The rows of a csv, and notices about how they were read.

    Args:
        option: the config key of the separator.

    Raises:
        ValueError: there is no way to read it; the message begins with the line.

    Example:
        >>> table('text,label\\n"good, indeed",pos\\n', ",")[0].rows
        [['good, indeed', 'pos']]
    """
    if "\n" not in text.rstrip("\r\n"):
        text = text.rstrip("\r\n").replace("\r", "\n")
    return reading(lambda: io.StringIO(text, newline="\n"), separator, keep=True, option=option)


def reading(
    opened: Callable[[], Iterable[str]], separator: str, keep: bool = False, option: str = "datamodule.separator"
) -> tuple[Parsed, list[str]]:
    """The format of a csv, and notices about it.

    Quotes are those of RFC 4180. Where they cannot be, but each line has as many fields as the header if they are
    plain characters, they are that.

    Args:
        opened: gives the lines, which end in ``\\n`` or ``\\r\\n``, from the first on; it is called up to four times.
        keep: whether the rows stay in memory.
        option: the config key of the separator.

    Raises:
        ValueError: there is no such reading; the message begins with the line.
    """
    found = _parse(opened(), separator, True, keep)
    if not found.names and all(line.isspace() for line in opened()):
        raise ValueError("it is empty")
    swallowed = None if found.problem else _swallowed(found, opened, separator)
    if found.problem is None and swallowed is None:
        return found, []
    if found.marks:
        raw = _parse(opened(), separator, False, keep)
        open_ended = swallowed or "nothing closes" in (found.problem or "")  # may be a file that was cut off
        if raw.problem is None and not _wrapped(raw) and (not open_ended or separator == "\t"):
            return raw, ['quotes (") are taken as plain characters, as they do not enclose fields']
    if wrong := other(found.names, separator, option):
        raise ValueError(f"line 1, the header, is one field, '{found.names[0][:200]}'; {wrong}")
    raise ValueError(found.problem or swallowed)


def other(names: Sequence[str], separator: str | None, option: str) -> str:
    """Advice where a header is one field that another separator splits; "" where it is not.

    Args:
        separator: between the fields; None: the table is no csv.
        option: the config key of the separator.

    Example:
        >>> print(other(["text;label"], ",", "separator"))
        if ';' stands between its fields, set "separator=';'"
    """
    if separator is None or len(names) != 1:
        return ""
    for mark in LIKELY:
        if mark != separator and sum(bool(part.strip()) for part in names[0].split(mark)) > 1:
            word = "'\\t'" if mark == "\t" else f"'{mark}'"
            return f'if {word} stands between its fields, set "{option}={word}"'
    return ""


class Held(list[str]):
    """The lines of the row that is being read, what was marked in them, and whether any so far had a quote."""

    bare = quoted = False

    def of(self, lines: Iterable[str]) -> Iterator[str]:
        """The lines, each held until it is cleared away."""
        for line in lines:
            if "\r" in line and WITHIN.search(line):
                line, self.bare = WITHIN.sub(BARE, line), True
            if '"' in line:
                self.quoted = True
            self.append(line)
            yield line


def rows(
    lines: Iterable[str], separator: str, quoted: bool, held: Held | None = None
) -> Iterator[tuple[int, list[str]]]:
    """The line at which each row begins, and its fields; the header is the first, and a blank line has no fields.

    Args:
        held: holds the lines of the row that is given out.

    Raises:
        ValueError: a line cannot be read.
    """
    held = Held() if held is None else held
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(held.of(lines), delimiter=separator, quoting=quoting, strict=True)  # type: ignore[arg-type]
    start = 1
    try:
        for row in reader:
            if held.bare:
                row, held.bare = [one.replace(BARE, "\r") for one in row], False
            yield start, row
            start = reader.line_num + 1
            held.clear()
    except csv.Error as error:
        raise ValueError(_explained(str(error), start, reader.line_num)) from error


def _parse(lines: Iterable[str], separator: str, quoted: bool, keep: bool) -> Parsed:
    """Read all rows, with quotes that enclose fields or as plain characters."""
    found, held = Parsed(quoted), Held()
    width, blank = -1, 0
    try:
        for start, row in rows(lines, separator, quoted, held):
            if not row:
                blank += 1
                continue
            if width < 0:
                found.names = header(row)
                width = len(found.names)
                found.enclosed = [0] * width
                continue
            found.blank, found.count = blank, found.count + 1
            if len(row) != width:
                if len(row) < width or any(one.strip() for one in row[width:]):
                    found.problem = found.problem or _width(start, len(row), found.names, separator)
                row = row[:width]
            if keep:
                found.rows.append(row)
                found.lines.append(start)
            if len(held) > 1 and width > 1:
                _note_tall(found, start, row, held, separator)
            if not quoted:
                for column, one in enumerate(row):
                    found.enclosed[column] += _enclosed(one)
    except ValueError as error:
        found.problem = str(error)
    found.marks = held.quoted
    return found


def header(row: Sequence[str]) -> list[str]:
    """The names of a header, without what follows the last.

    Example:
        >>> header([" text ", "label", ""])
        ['text', 'label']
    """
    names = [name.strip() for name in row]
    while names and not names[-1]:
        names.pop()
    return names


def _explained(error: str, start: int, line: int) -> str:
    where = f"line {line}" if line <= start else f"line {line}, in a field whose quote may open in line {start},"
    if "unexpected end" in error:
        return f'line {start} has a quote (") that nothing closes: remove it, or double it ("")'
    if "expected after" in error:
        return f'{where} has a quote (") within a field: write it twice (""), not with a backslash'
    return f"{where} cannot be read: {error}"


def _width(line: int, fields: int, names: Sequence[str], separator: str) -> str:
    named = "'\\t'" if separator == "\t" else f"'{separator}'"
    return (
        f"line {line} has {fields} field{'s' * (fields != 1)}, and the header has {len(names)} "
        f"({', '.join(names)[:200]}): put a text with {named} or a line break in it in double quotes"
    )


def _note_tall(found: Parsed, start: int, row: list[str], held: Sequence[str], separator: str) -> None:
    """Keep a row of several lines, each of which could be a row of its own."""
    height = sum(one.count("\n") for one in row)
    pieces = [line.rstrip("\r\n").replace(BARE, "\r").split(separator) for line in held[:height]]
    if pieces and all(len(piece) == len(found.names) for piece in pieces):
        found.tall.append((start, height, [[one.strip().strip('"') for one in piece] for piece in pieces]))


def _swallowed(found: Parsed, opened: Callable[[], Iterable[str]], separator: str) -> str | None:
    """The line of a quote that joined whole rows into one field by mistake; None: there is none.

    Each line within such a field could be a row of its own, and one has a value that other rows have in that column.
    """
    if not found.tall:
        return None
    wanted = [
        {piece[column] for *_, pieces in found.tall for piece in pieces} - {""} for column in range(len(found.names))
    ]
    known: list[set[str]] = [set() for _ in wanted]
    for _, row in _body(found, opened, separator):
        for column, one in enumerate(row[: len(wanted)]):
            if "\n" not in one and (value := one.strip()) in wanted[column]:
                known[column].add(value)
    for start, height, pieces in found.tall:
        if any(one in known[column] for piece in pieces for column, one in enumerate(piece)):
            return (
                f'line {start} has a quote (") that swallows the rows down to line {start + height}: double it (""), '
                "or save the file as jsonl"
            )
    return None


def _body(found: Parsed, opened: Callable[[], Iterable[str]], separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows without the header."""
    every = (pair for pair in rows(opened(), separator, found.quoted) if pair[1])
    next(every, None)
    return every


def _wrapped(raw: Parsed) -> bool:
    """Whether quotes enclose the fields of a column, by and large."""
    return any(map(_enclosed, raw.names)) or any(count * 2 > raw.count for count in raw.enclosed)


def _enclosed(one: str) -> bool:
    return len(one) > 1 and one[0] == one[-1] == '"'
