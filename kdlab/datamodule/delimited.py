"""Csv and tsv: fields between separators, in double quotes where they hold one; no field is moved or swallowed."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

PRIVATE = [chr(code) for code in range(0xE000, 0xF8FF)]


@dataclass(frozen=True)
class Parsed:
    """What a file has under one reading of its quotes.

    Attributes:
        names: the header, without what follows the last name.
        rows: the fields of each row that has any.
        lines: the line at which each row begins, from 1.
        blank: how many lines have nothing.
        problem: why this reading cannot be the right one; None: it may be.
    """

    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    blank: int
    problem: str | None


def table(text: str, separator: str) -> tuple[Parsed, list[str]]:
    """The rows of a csv, and what is to be said about how they were read.

    Quotes are those of RFC 4180. Where they cannot be, but each line has as many fields as the header if they are
    plain characters, they are that.

    Raises:
        ValueError: there is no such reading; the message begins with the line.

    Example:
        >>> table('text,label\\n"good, indeed",pos\\n', ",")[0].rows
        [['good, indeed', 'pos']]
    """
    text = text.rstrip("\r\n")
    if not text.strip():
        raise ValueError("it is empty")
    mark = ""
    if "\n" not in text:
        text = text.replace("\r", "\n")
    elif re.search(r"\r(?!\n)", text):  # a line break within a text, as lines end in another way
        mark = next(char for char in PRIVATE if char not in text)
        text = re.sub(r"\r(?!\n)", mark, text)
    parsed, notices = _read(text, separator)
    if mark:
        parsed.names[:] = [name.replace(mark, "\r").strip() for name in parsed.names]
        parsed.rows[:] = [[field.replace(mark, "\r") for field in row] for row in parsed.rows]
    return parsed, notices


def _read(text: str, separator: str) -> tuple[Parsed, list[str]]:
    plain = '"' not in text
    found = parse(text, separator, quoted=not plain)
    if plain:
        if found.problem:
            raise ValueError(found.problem)
        return found, []
    swallowed = None if found.problem else _swallowed(found, text, separator)
    if found.problem is None and swallowed is None:
        return found, []
    raw = parse(text, separator, quoted=False)
    open_ended = swallowed or "nothing closes" in (found.problem or "")  # may be a file that was cut off
    if raw.problem is None and not _wrapped(raw) and (not open_ended or separator == "\t"):
        return raw, ['quotes (") are taken as plain characters, as they do not enclose fields']
    raise ValueError(found.problem or swallowed)


def parse(text: str, separator: str, quoted: bool) -> Parsed:
    """All rows, with quotes that enclose fields, or as plain characters.

    Args:
        text: its lines end in ``\\n`` or ``\\r\\n``.
    """
    source, quoting = io.StringIO(text, newline="\n"), csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(source, delimiter=separator, quoting=quoting, strict=True)  # type: ignore[arg-type]
    rows: list[list[str]] = []
    lines: list[int] = []
    blank, start, problem = 0, 1, None
    limit = csv.field_size_limit(sys.maxsize)
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(start)
            else:
                blank += 1
            start = reader.line_num + 1
    except csv.Error as error:
        problem = _told(str(error), start, reader.line_num)
    finally:
        csv.field_size_limit(limit)
    names = [name.strip() for name in rows[0]] if rows else []
    while names and not names[-1]:
        names.pop()
    rows, lines = rows[1:], lines[1:]
    return Parsed(names, rows, lines, blank, problem or _widths(names, rows, lines, separator))


def _told(error: str, start: int, line: int) -> str:
    where = f"line {line}" if line <= start else f"line {line}, in a field whose quote may open in line {start},"
    if "unexpected end" in error:
        return f'line {start} has a quote (") that nothing closes: remove it, or double it ("")'
    if "expected after" in error:
        return f'{where} has a quote (") within a field: write it twice (""), not with a backslash'
    return f"{where} cannot be read: {error}"


def _widths(names: Sequence[str], rows: list[list[str]], lines: Sequence[int], separator: str) -> str | None:
    """Cut empty fields off that nothing names; the first row that has not as many fields as the header."""
    count = len(names)
    if set(map(len, rows)) <= {count}:
        return None
    for index, row in enumerate(rows):
        if len(row) == count:
            continue
        if len(row) < count or any(field.strip() for field in row[count:]):
            named = "'\\t'" if separator == "\t" else f"'{separator}'"
            return (
                f"line {lines[index]} has {len(row)} field{'s' * (len(row) != 1)}, and the header has {count} "
                f"({', '.join(names)[:200]}): put a text with {named} or a line break in it in double quotes"
            )
        rows[index] = row[:count]
    return None


def _swallowed(found: Parsed, text: str, separator: str) -> str | None:
    """Where a quote opens that was not meant to, so that whole rows became one field; None: nowhere.

    Each line within such a field could be a row of its own, and one has a value that other rows have in that column.
    """
    count = len(found.names)
    tall = [index for index, row in enumerate(found.rows) if any("\n" in field for field in row)]
    if count < 2 or not tall:
        return None
    known = [
        {field.strip() for field in column if "\n" not in field} - {""} for column in zip(*found.rows, strict=True)
    ]
    lines = text.split("\n")
    for index in tall:
        start = found.lines[index]
        height = sum(field.count("\n") for field in found.rows[index])
        pieces = [line.rstrip("\r").split(separator) for line in lines[start - 1 : start - 1 + height]]
        if all(len(piece) == count for piece in pieces) and any(
            piece[column].strip().strip('"') in known[column] for piece in pieces for column in range(count)
        ):
            return (
                f'line {start} has a quote (") that swallows the rows down to line {start + height}: double it (""), '
                "or save the file as jsonl"
            )
    return None


def _wrapped(raw: Parsed) -> bool:
    """Whether quotes enclose the fields of a column, by and large."""

    def enclosed(field: str) -> bool:
        return len(field) > 1 and field[0] == field[-1] == '"'

    columns = zip(*raw.rows, strict=False)
    return any(map(enclosed, raw.names)) or any(sum(map(enclosed, column)) * 2 > len(column) for column in columns)
