"""JSON: objects, one a line; one array of objects; or an object of columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Table = tuple[str, list[str], list[list[Any]], Sequence[int]]  # what rows are counted by, names, columns, lines


def table(text: str) -> Table:
    """The columns of a text: objects, one a line; one array of objects; or an object of columns, as pandas writes it.

    Raises:
        ValueError: it is none of them; the message names the line or row.

    Example:
        >>> table('{"text": "good"}')
        ('line', ['text'], [['good']], [1])
    """
    start = text.lstrip()[:1]
    if start == "[":
        return _objects(json.loads(text, object_pairs_hook=_pairs), None)
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
        return _columns(whole)
    if len(rows) == 1 and isinstance(rows[0], dict) and all(isinstance(one, (list, dict)) for one in rows[0].values()):
        return _columns(rows[0])
    return _objects(rows, lines)


def _whole(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text, object_pairs_hook=_pairs)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _columns(found: dict[str, Any]) -> Table:
    rows = next(iter(found.values())) if len(found) == 1 else None
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return _objects(rows, None)
    columns = [list(one.values()) if isinstance(one, dict) else one for one in found.values()]
    if not columns or not all(isinstance(one, list) and len(one) == len(columns[0]) for one in columns):
        raise ValueError("it must be an object a line, an array of objects, or an object of columns of one length")
    keys = {json.dumps(list(one)) for one in found.values() if isinstance(one, dict)}
    if len(keys) > 1:
        raise ValueError("its columns have different rows")
    return "row", [name.strip() for name in found], columns, range(1, len(columns[0]) + 1)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a name twice")
    return found


def _objects(rows: Iterable[Any], lines: Sequence[int] | None) -> Table:
    rows = list(rows)
    unit = "row" if lines is None else "line"
    lines = lines or range(1, len(rows) + 1)
    names: dict[str, None] = {}
    for line, row in zip(lines, rows, strict=True):
        _check(row, f"{unit} {line}")
        names |= dict.fromkeys(row)
    columns = [[row.get(name) for row in rows] for name in names]
    return unit, [name.strip() for name in names], columns, lines


def _check(row: Any, where_in_file: str) -> None:
    if not isinstance(row, Mapping):
        shown = json.dumps(row, ensure_ascii=False)[:40]
        raise ValueError(f'{where_in_file} is {shown}, and must be an object such as {{"text": "…"}}')


def by_line(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The line of each object, and the object, of a text that has one a line.

    Raises:
        ValueError: a line is no object; the message names it.

    Example:
        >>> list(by_line(['{"text": "good"}\\n', '\\n', '{"text": "bad"}\\n']))
        [(1, {'text': 'good'}), (3, {'text': 'bad'})]
    """
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            row = json.loads(line.removesuffix("\n"), object_pairs_hook=_pairs)
        except ValueError as problem:
            raise ValueError(f"line {number}: {problem}") from problem
        _check(row, f"line {number}")
        yield number, row


def has_one_a_line(lines: Iterable[str]) -> bool:
    """Whether a text is to be read by line: it is neither an array nor an object of columns.

    Example:
        >>> has_one_a_line(['{"text": "good"}']), has_one_a_line(['{"text":\\n', '["good"]}'])
        (True, False)
    """
    full = (line for line in lines if not line.isspace())
    first = next(full, "").strip()
    try:
        found = json.loads(first, object_pairs_hook=_pairs) if first[:1] != "[" else None
    except ValueError:
        return False
    if not isinstance(found, dict):
        return False
    return next(full, None) is not None or not all(isinstance(one, (list, dict)) for one in found.values())
