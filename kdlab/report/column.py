"""The columns of runs by any name that is shown for them: a field, a metric, a config key, or its short heading."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from kdlab.config.direction import columns, higher_is_better, primaries
from kdlab.direction import gathered
from kdlab.error import UserError
from kdlab.report.compare import validation
from kdlab.report.cost import Costs
from kdlab.report.problem import problems
from kdlab.report.read import Record
from kdlab.report.setting import flatten, short, swept

FIELDS = ("id", "command", "state", "group", "job", "seed", "started", "seconds", "reason", "data")
HEADINGS = {"run": "id", "time": "seconds"}
TAKEN = {*FIELDS, *HEADINGS, "val", "test"}  # headings that no key may have


def tested(records: Sequence[Record]) -> str:
    """The test metric of what most runs kept their best weights by, such as ``test/accuracy``."""
    kept = [str(record.done.get("metric")).replace("val/", "test/", 1) for record in records if record.done]
    measured = {name for record in records for name in record.metrics}
    known = [name for name in kept if name in measured]
    named = [f"test/{name}" for name in primaries(record.done for record in records)]
    return max(sorted(set(known)), key=known.count, default=named[0] if named else "")


def metrics(records: Sequence[Record]) -> list[str]:
    """The metrics that tables show where none are asked for: what decides, what is measured on the test, and cost."""
    done = [record.done for record in records]
    best = [f"best/{name}" for name in dict.fromkeys(str(one["metric"]) for one in done if one.get("metric"))]
    return [*best, *(f"test/{name}" for name in columns(done)), *Costs(records).main]


class Columns:
    """The values of runs, by name.

    Args:
        records: the runs, in any order.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)
        self.flats = {record.folder: flatten(record.config) for record in records}
        self.measured = list(dict.fromkeys(name for record in records for name in record.metrics))
        self.keys = swept(records)
        self.shown = {key: key if name in TAKEN else name for key, name in short(self.keys).items()}
        self.problems = problems(records)
        self.test = tested(records)
        self.metrics = metrics(records)
        self.validation = validation(self.records, self.test, share=0.5)
        self.directions = gathered(record.done for record in records)

    def key(self, name: str, option: str) -> str:
        """The whole name of a column.

        Args:
            name: as a heading shows it, or whole.
            option: where the user wrote it.

        Raises:
            UserError: no run has it, or several keys are called so.
        """
        name = HEADINGS.get(name, {"val": self.validation, "test": self.test}.get(name, name))
        known = {key for flat in self.flats.values() for key in flat}
        if name in FIELDS or name in self.measured or name in known or name in self.metrics:
            return name
        by_heading = [key for key, heading in self.shown.items() if heading == name]
        ends = by_heading or [one for one in (f"choice.{name}", f"test/{name}") if one in known or one in self.measured]
        ends = ends or sorted(key for key in [*known, *self.measured] if key.endswith((f".{name}", f"/{name}")))
        if len(ends) == 1:
            return ends[0]
        if ends:
            raise UserError(f"{option}={name} may be {', '.join(ends[:6])}: name one of them in full.")
        names = [*HEADINGS, *FIELDS, "val", "test", *self.shown.values(), *self.measured, *known]
        near = list(dict.fromkeys(get_close_matches(name, names, 4)))
        there = [*FIELDS, "val", "test", *self.shown.values(), *self.measured]
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(dict.fromkeys(there))}"
        raise UserError(f"{option}={name}: no run has it; {hint} (and every key of the runs' config.yaml).")

    def more_is_better(self, key: str) -> bool | None:
        """Whether more of a metric is better; None where nothing declares it."""
        return higher_is_better(key, self.directions)

    def value(self, record: Record, key: str) -> Any:
        """The value of a run in a column, or None."""
        if key == "data":
            return self.problems[record.folder]
        if key in FIELDS:
            return getattr(record, key)
        return record.metrics.get(key, self.flats[record.folder].get(key))

    def heading(self, key: str) -> str:
        """The shortest name of a column that :meth:`key` takes."""
        if key in (self.validation, self.test) and self.validation != self.test:
            return "val" if key == self.validation else "test"
        return {"id": "run", "seconds": "time"}.get(key) or self.shown.get(key, key)
