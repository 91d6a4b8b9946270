"""Which runs: by id, by glob, by sweep, by experiment, by command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from kdlab.report.read import Record


def select(
    records: Iterable[Record],
    names: str | Sequence[str] | None = None,
    group: str | None = None,
    experiment: str | None = None,
    command: str | None = None,
) -> list[Record]:
    """The records that fit every condition given, in their order.

    Args:
        names: one name or several; a record fits if any of them is its id, its ``command/id``, its group or its
            experiment, or a glob of one of these. None: all.
        group, experiment, command: a name or a glob.
    """
    wanted = None if names is None else [names] if isinstance(names, str) else list(names)
    return [
        one
        for one in records
        if (wanted is None or any(named(one, name) for name in wanted))
        and all(
            pattern is None or fnmatchcase(value, pattern)
            for value, pattern in [
                (one.group, group),
                (one.choice.get("experiment", ""), experiment),
                (one.command, command),
            ]
        )
    ]


def named(record: Record, pattern: str) -> bool:
    """Whether a name or glob means this record."""
    names = (record.id, f"{record.command}/{record.id}", record.group, record.choice.get("experiment", ""))
    return any(name and (name == pattern or fnmatchcase(name, pattern)) for name in names)
