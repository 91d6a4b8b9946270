"""The value of a cell, by the same rules for every kind of file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kdlab.error import UserError

WHOLE = re.compile(r"(-?\d+)\.0+")
WRITTEN = re.compile(r"(\[.*\]|\{.*\}|b'.*'|b\".*\")", re.DOTALL)  # a list, dict or bytes as Python prints them
YES = {"1": 1, "true": 1, "yes": 1, "0": 0, "false": 0, "no": 0}


def text(value: Any) -> str | None:
    """A value as text without spaces around it; None where it is empty. 1 and 1.0 are ``1``; bytes are UTF-8.

    Raises:
        ValueError: it is a list, a mapping, or bytes of another encoding; the message names the kind.

    Example:
        >>> text(" good "), text(1.0), text(float("nan")), text(b"caf\\xc3\\xa9")
        ('good', '1', None, 'café')
    """
    if type(value) is str:
        return value.strip() or None
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, np.generic):
        return text(value.item())
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode("utf-8").strip() or None
        except UnicodeDecodeError as problem:
            raise ValueError("bytes that are not UTF-8") from problem
    if isinstance(value, Mapping):
        raise ValueError("a mapping")
    if several(value):
        raise ValueError("a list")
    return str(value).strip() or None


def several(value: Any) -> bool:
    """Whether a cell is a list of values, of whatever type."""
    return isinstance(value, (list, tuple, set, frozenset, np.ndarray))


def label(value: Any) -> str | None:
    """A label: a text, in which ``1.0`` is ``1``.

    Raises:
        ValueError: as :func:`text`, and for a text that is a list, mapping or bytes as Python prints them.

    Example:
        >>> label("0.0"), label(0), label("01"), label("")
        ('0', '0', '01', None)
    """
    found = text(value)
    if found is None:
        return None
    if found[0] in "[{b" and WRITTEN.fullmatch(found):
        raise ValueError(f"{found[:40]}, which looks like a list, mapping or bytes that Python printed")
    whole = WHOLE.fullmatch(found) if found[-1] == "0" else None
    return whole[1] if whole else found


def names(value: Any, separator: str) -> list[str] | None:
    """The labels of a cell that may have several, each once: a list, or a text with a separator; None where empty.

    Raises:
        ValueError: as :func:`label`.

    Example:
        >>> names("b; a;b", ";"), names(["a", 1.0], ";"), names([], ";"), names("", ";")
        (['b', 'a'], ['a', '1'], [], None)
    """
    if several(value):
        found = [label(each) for each in (sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)]
    else:
        whole = label(value)
        if whole is None:
            return None
        found = [label(part) for part in whole.split(separator)]
    return list(dict.fromkeys(name for name in found if name is not None))


def yes(value: Any) -> int | None:
    """1 or 0 for a cell that is 1, true, yes, 0, false or no; None where it is empty.

    Raises:
        ValueError: it is none of them.

    Example:
        >>> yes(True), yes("0"), yes(0.0), yes("")
        (1, 0, 0, None)
    """
    found = label(value)
    if found is None:
        return None
    if found.lower() not in YES:
        raise ValueError(f"'{found[:40]}'")
    return YES[found.lower()]


def hot(values: Sequence[Any]) -> int | None:
    """The number of labels, where the cells are lists with a 0 or 1 for each; None where they are not.

    Lists of as many numbers, all 0 or 1, one at least of which comes twice: no list of labels has one twice.

    Example:
        >>> hot([[1, 0, 0], None, [0, 1, 1]]), hot([[0], [1]]), hot([["a", "b"]])
        (3, None, None)
    """
    lists = [list(value) for value in values if several(value)]
    sizes = set(map(len, lists))
    if len(sizes) != 1 or not any(len(set(map(str, one))) < len(one) for one in lists):
        return None
    plain = all(isinstance(each, (int, float, np.generic)) and each in (0, 1) for one in lists for each in one)
    return sizes.pop() if plain else None


def each(values: Sequence[Any], read: Callable[[Any], Any], message: Callable[[int, str], str]) -> list[Any]:
    """Every cell of a column as ``read`` gives it.

    Args:
        message: a sentence for the cell at an index, and what it has.

    Raises:
        UserError: a cell cannot be read.
    """
    found = []
    for index, value in enumerate(values):
        try:
            found.append(read(value))
        except ValueError as problem:
            raise UserError(message(index, str(problem))) from problem
    return found
