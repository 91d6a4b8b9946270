"""Text of a run directory to plain values. It never builds objects, never follows a bomb, and names what is wrong."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import yaml

from kdlab.text import one_line, printable

LARGEST_FILE = 64 * 2**20  # bytes
DEEPEST = 40  # levels of lists and mappings
LONGEST = 20_000  # leaves of one config
LARGEST = 1e100  # a number beyond it measures nothing, and its square is no number


class UnreadableError(ValueError):
    """A file that exists and has not the expected content; the message is one line for the table."""


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, without merge keys: a chain of them doubles at each link."""

    def flatten_mapping(self, node):
        pass


def text_of(path: Path) -> str | None:
    """The content of a file, or None where there is no such file."""
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
            raise UnreadableError(f"{path.name} is a link that leads out of the run's folder")
        if not path.is_file():
            return None
        if path.stat().st_size > LARGEST_FILE:
            raise UnreadableError(f"{path.name} is larger than {LARGEST_FILE // 2**20} MiB")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableError(f"{path.name} is not UTF-8 text") from None
    except OSError as error:
        raise UnreadableError(f"{path.name} cannot be read: {error.strerror}") from None


def clean(value: object, depth: int = 0) -> object:
    """Plain values only, texts without control characters and lone surrogates. Errors: UnreadableError if too deep."""
    if depth > DEEPEST:
        raise UnreadableError(f"nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        return {str(clean(str(key))): clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [clean(item, depth + 1) for item in value]
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return printable(value)


def leaves(value: object) -> int:
    """The number of nodes of a value when written out; stops counting past the allowed number (aliases multiply)."""
    count, open_nodes = 0, [value]
    while open_nodes:
        node = open_nodes.pop()
        count += 1
        if count > LONGEST:
            raise UnreadableError(f"more than {LONGEST} values")
        if isinstance(node, dict):
            open_nodes.extend(node.values())
        elif isinstance(node, (list, tuple, set)):
            open_nodes.extend(node)
    return count


def parse_yaml(text: str, name: str, kind: type) -> object:
    """A mapping or a list (`kind`) from YAML. Errors: UnreadableError."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=Loader):  # first flat: the C loader overflows its stack on deep nesting
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise UnreadableError(f"nested deeper than {DEEPEST} levels")
        value = yaml.load(text, Loader=Loader)  # Loader is a safe one
        leaves(value)
        value = clean(value)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"{name} is not plain YAML: {one_line(error)}") from None
    if not isinstance(value, kind):
        raise UnreadableError(f"{name} is not a {'mapping' if kind is dict else 'list'}")
    return value


def parse_json(text: str, name: str) -> dict:
    """A mapping from JSON. Errors: UnreadableError."""
    try:
        value = json.loads(text)
        leaves(value)
        value = clean(value)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{name} is not JSON: {one_line(error)}") from None
    if not isinstance(value, dict):
        raise UnreadableError(f"{name} is not a mapping")
    return value


def parse_history(text: str, name: str) -> dict[str, list[float | None]]:
    """Columns from CSV: finite numbers or None. A last line without its end is still being written, and left out."""
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise UnreadableError(f"{name} is not CSV: {one_line(error)}") from None
    if not rows:
        return {}
    header, *body = rows
    if len(set(header)) != len(header):
        raise UnreadableError(f"{name} names a column twice")
    return {
        str(clean(column)): [number(row[index]) if index < len(row) else None for row in body]
        for index, column in enumerate(header)
    }


def number(value: object) -> float | None:
    """A finite number of at most 1e100, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) <= LARGEST else None
