"""The differences between runs: flat config keys, those worth a column, and runs that differ in their seed only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdlab.report.read import Record

Setting = tuple[tuple[str, Any], ...]
PLACES = ("paths", "hydra", "logger", "launcher", "callback", "outputs", "id", "wandb", "seed", "cluster", "group")
PLACE_ENDS = (
    "download",
    "rerun",
    "trust",
    "check",
    "progress",
    "dir",
    "dirpath",
    "folder",
    "root",
    "save_dir",
    "default_root_dir",
    "num_workers",
    "output_dir",
    "seed",
)
MISSING = None


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"loss": {"alpha": 0.5}}`` to ``{"loss.alpha": 0.5}``; a list of plain values is one value, as text."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= flatten(value, name + ".")
        elif isinstance(value, list):
            if any(isinstance(item, (dict, list)) for item in value):
                flat |= flatten({str(index): item for index, item in enumerate(value)}, name + ".")
            else:
                flat[name] = "[" + ", ".join(map(text, value)) + "]"
        else:
            flat[name] = value
    return flat


def differing(records: Iterable[Record]) -> list[str]:
    """Config keys, dotted, on which the records do not agree; without paths, loggers and the seed. ``2`` is ``2.0``."""
    values: dict[str, list[Any]] = {}
    flats = [flatten(record.config) for record in records if record.config]
    for flat in flats:
        for key in flat:
            values.setdefault(key, [])
    for key, column in values.items():
        column += [_same(flat.get(key, MISSING)) for flat in flats]
    return sorted(key for key, column in values.items() if len(set(column)) > 1 and not _place(key, column))


def swept(records: Sequence[Record]) -> list[str]:
    """The keys that differ between runs of one command and carry information of their own, options first.

    Left out, unless a run's overrides name it: what follows from the name of an option (``freeze.start`` where only
    ``choice.freeze`` sets it, ``choice.loss_terms_kl`` where ``choice.loss`` does), and a value written twice through
    an interpolation (``loss.terms.kl.temperature``).
    """
    by_command: dict[str, list[Record]] = {}
    for record in records:
        by_command.setdefault(record.command, []).append(record)
    return list(dict.fromkeys(key for some in by_command.values() for key in _swept(some)))


def _swept(records: Sequence[Record]) -> list[str]:
    asked = {override.split("=", 1)[0].lstrip("+~") for record in records for override in record.overrides}
    flats = [flatten(record.config) for record in records if record.config]
    keys = sorted(differing(records), key=lambda key: (not key.startswith("choice."), key.count("."), key))
    kept: list[str] = []
    columns: dict[str, tuple] = {}
    for key in keys:
        column = tuple(_same(flat.get(key, MISSING)) for flat in flats)
        choices = [
            name
            for name in kept
            if name.startswith("choice.") and (not key.startswith("choice.") or key.startswith(f"{name}_"))
        ]
        explained = any(_follows(column, columns[name]) for name in choices)
        twin = any(_last(key) == _last(name) and _agree(column, columns[name]) for name in kept)
        if key in asked or not (explained or twin or _last(key).startswith("_")):
            kept.append(key)
            columns[key] = column
    return kept


def setting(record: Record, keys: Sequence[str]) -> Setting:
    """The record's values of `keys`: equal for runs that differ in their seed only."""
    flat = flatten(record.config)
    return tuple((key, _plain(flat.get(key, MISSING))) for key in keys)


def short(keys: Sequence[str]) -> dict[str, str]:
    """Names for columns: the last part of a key, or as many of its parts as distinguish it from the others."""
    names: dict[str, str] = {}
    for key in keys:
        parts = key.removeprefix("choice.").split(".")
        for count in range(1, len(parts) + 1):
            names[key] = ".".join(parts[-count:])
            others = [other.removeprefix("choice.") for other in keys if other != key]
            if not any(f".{other}".endswith(f".{names[key]}") for other in others):
                break
    return {key: name if list(names.values()).count(name) == 1 else key for key, name in names.items()}


def text(value: object) -> str:
    """A value as one would type it: ``2`` for 2.0, ``null`` for None."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value


def _same(value: Any) -> tuple[str, str]:
    """Equal for 2 and 2.0, different for 1 and True, and hashable for anything."""
    return ("number" if is_number(value) else type(value).__name__, text(value))


def _last(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _follows(column: tuple, option: tuple) -> bool:
    """Whether the value is the same wherever the option is, for options that set more than one value."""
    found: dict[Any, Any] = {}
    return all(found.setdefault(name, value) == value for name, value in zip(option, column, strict=True))


def _agree(column: tuple, other: tuple) -> bool:
    nothing = _same(MISSING)
    return all(nothing in (a, b) or a == b for a, b in zip(column, other, strict=True))


def _place(key: str, column: Iterable[tuple[str, str]]) -> bool:
    """Whether a key is a path, and not part of what is computed."""
    if key.removeprefix("choice.").split(".", 1)[0] in PLACES or _last(key) in PLACE_ENDS:
        return True
    texts = [value for kind, value in column if kind == "str"]
    return bool(texts) and all(re.match(r"(/|[A-Za-z]:\\|file:)", value) for value in texts)
