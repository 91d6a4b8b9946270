"""What quality is drawn against. Of an architecture, a time is the best of all that were measured on a machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kdlab.config.direction import costs, higher_is_better
from kdlab.direction import COUNTED, SPENT, TIMED, gathered
from kdlab.report.read import Record


class Costs:
    """The costs that runs declare of their metrics.

    Args:
        records: the runs.

    Attributes:
        kinds: by name, in the order of the declarations: counted, timed or spent, see :mod:`kdlab.direction`.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.kinds = costs(record.done for record in records)
        self.directions = gathered(record.done for record in records)
        self._best: dict[tuple[str, Any], float] = {}
        for record in records:
            for name in self.of(TIMED):
                if (value := record.metrics.get(name)) is not None:
                    known = self._best.setdefault((name, self.architecture(record)), value)
                    self._best[name, self.architecture(record)] = self._better(name)(value, known)

    def of(self, *kinds: str) -> list[str]:
        """The names of those of some kinds, in order."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    @property
    def counted(self) -> str | None:
        """The one that models are ordered by: the first that is counted."""
        return next(iter(self.of(COUNTED)), None)

    @property
    def main(self) -> list[str]:
        """The first that is counted and the first that is timed: what tables show where nothing is chosen."""
        return [*self.of(COUNTED)[:1], *self.of(TIMED)[:1]]

    def architecture(self, record: Record) -> tuple:
        """What is equal for runs whose models take as long on the same machine."""
        shape = tuple(record.metrics.get(name) for name in self.of(COUNTED))
        return record.choice.get("student") or record.choice.get("model"), record.host, record.device, *shape

    def steady(self, record: Record) -> dict[str, float]:
        """The timed costs of a run: of each the best that any run of the same architecture and machine measured."""
        return {name: self._best[name, self.architecture(record)] for name in self.of(TIMED) if name in record.metrics}

    def axes(self, records: Sequence[Record], measured: Sequence[str]) -> list[str]:
        """What quality may be drawn against: counted quantities first, and times only between architectures."""
        timed = [record for record in records if any(name in record.metrics for name in self.of(TIMED))]
        several = len({tuple(record.metrics.get(name) for name in self.of(COUNTED)) for record in timed}) > 1
        spent = any(run.seconds for run in records)
        there = [name for name in self.of(COUNTED, TIMED, SPENT) if name in measured or (name == "seconds" and spent)]
        return [name for name in there if self.kinds[name] != TIMED or several]

    def _better(self, name: str) -> Callable[[float, float], float]:
        return max if higher_is_better(name, self.directions) else min
