"""The choice of runs: by id or a part of it, by glob, by sweep, by experiment, by state, by command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from kdlab.config.identity import resolved
from kdlab.report.read import Record


def select(
    records: Iterable[Record],
    names: str | int | Sequence[str | int] | None = None,
    group: str | None = None,
    experiment: str | None = None,
    command: str | None = None,
) -> list[Record]:
    """The records that fit every condition given, in their order.

    Args:
        names: one name or several; a record fits if any of them is its id, its ``command/id``, its group, its sweep,
            its experiment or its state, or a glob of one of these, or the end or the beginning of its id alone.
            None: all.
        group, experiment, command: a name or a glob.

    Raises:
        UserError: a part of an id fits several.
    """
    records = list(records)
    wanted = None if names is None else [str(name) for name in ([names] if isinstance(names, str | int) else names)]
    if wanted is not None:
        wanted = [name if any(named(one, name) for one in records) else _whole(name, records) for name in wanted]
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
    names = (
        record.id, f"{record.command}/{record.id}", record.group, *record.sweeps, record.choice.get("experiment", ""),
        record.state,
    )  # fmt: skip
    return any(name and (name == pattern or fnmatchcase(name, pattern)) for name in names)


def _whole(name: str, records: Sequence[Record]) -> str:
    """The id that a name is a part of, or the name."""
    return resolved(name, [record.id for record in records]) or name
