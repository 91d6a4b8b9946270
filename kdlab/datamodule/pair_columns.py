"""The source and target columns of a table and the reading of their cells, without importing torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kdlab.datamodule import cell
from kdlab.datamodule.columns import Reading
from kdlab.datamodule.corpus import PAIR, Corpus, counted
from kdlab.datamodule.frame import Frame
from kdlab.error import UserError


@dataclass(kw_only=True)
class PairReading:
    """Reads the pairs of a table; the arguments are those of :class:`kdlab.datamodule.pairs.Pairs`."""

    source_column: Any = "source"
    target_column: Any = "target"
    split_column: Any = None
    incomplete: str = "refuse"

    def __post_init__(self) -> None:
        if self.incomplete not in ("refuse", "drop"):
            raise UserError(f"datamodule.incomplete is '{self.incomplete}', and must be refuse or drop")
        if str(self.source_column) == str(self.target_column):
            raise UserError(
                f"datamodule.source_column and target_column are both '{self.source_column}': name two columns"
            )

    def gathered(self, frame: Frame) -> Corpus:
        """The pairs of a table, each joined by ``PAIR``.

        Raises:
            UserError: a column that is not there, a cell that cannot be read, or a row that is not complete.
        """
        whole = self.complete(frame)
        sources, targets = (self._texts(whole, name) for name in ("source_column", "target_column"))
        split = None if self.split_column is None else Reading().splits(whole, self.split_column)
        values = [PAIR.join(text.replace(PAIR, " ") for text in pair) for pair in zip(sources, targets, strict=True)]
        return Corpus(
            whole.where, values, [None] * len(whole), None, split, row_name=whole.row_name, notices=list(whole.notices)
        )

    def complete(self, frame: Frame) -> Frame:
        """The rows that have a source and a target; a notice counts the others.

        Raises:
            UserError: there are others, and ``incomplete`` is ``refuse``; or there are none.
        """
        names = ("source_column", "target_column")
        sides = {name: self._texts(frame, name) for name in names}
        lacking = {name: [index for index, text in enumerate(sides[name]) if not text] for name in names}
        gone = set(lacking["source_column"]) | set(lacking["target_column"])
        if not gone:
            return frame
        option, rows = next((name, rows) for name, rows in lacking.items() if rows)
        if self.incomplete == "refuse":
            more = f", nor {'has' if len(rows) == 2 else 'have'} {counted(len(rows) - 1, 'other row', 'other rows')}"
            raise UserError(
                f"{frame.where}: {frame.row_name(rows[0])} has no text in the column '{getattr(self, option)}'"
                f"{more if len(rows) > 1 else ''}: fill it, or set datamodule.incomplete=drop to leave out such rows"
            )
        kept = [index for index in range(len(frame)) if index not in gone]
        if not kept:
            raise UserError(f"{frame.where}: no row has both a source and a target: look at the two columns")
        notice = f"{counted(len(gone), 'row is', 'rows are')} left out, without a source or a target"
        return replace(
            frame,
            columns=[[column[index] for index in kept] for column in frame.columns],
            lines=[frame.lines[index] for index in kept],
            notices=[*frame.notices, notice],
        )

    def _texts(self, frame: Frame, option: str) -> list[str]:
        name = {"source_column": self.source_column, "target_column": self.target_column}[option]
        values: Sequence[Any] = frame.column(name, option)
        return [each or "" for each in cell.each(values, cell.text, partial(_message, frame, name))]


def _message(frame: Frame, column: Any, index: int, found: Any) -> str:
    return f"{frame.where}: {frame.row_name(index)} has {found} in the column '{column}', which must have a text"
