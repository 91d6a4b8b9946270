"""Some rows of a file with all their columns, passed from a reader to a writer."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import pyarrow as pa

from kdlab.error import UserError


class Chunk(ABC):
    """Some rows of a file.

    Attributes:
        names: of the columns, without spaces around them.
        lines: the line of each row.
    """

    names: Sequence[str]
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.lines)

    @abstractmethod
    def column(self, number: int) -> list[Any]:
        """The values of a column; None where a row has none."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """A mapping a row."""

    @abstractmethod
    def arrow(self, schema: pa.Schema | None) -> pa.Table:
        """A table, with the types of ``schema`` where there is one."""

    def cells(self) -> list[list[str]]:
        """The values as text, by row; those that are no text are written as JSON."""
        columns = [list(map(_cell, self.column(number))) for number in range(len(self.names))]
        return [list(row) for row in zip(*columns, strict=True)]


@final
@dataclass(frozen=True)
class Fields(Chunk):
    """Rows of texts, as a csv has them."""

    names: Sequence[str]
    lines: Sequence[int]
    rows: list[list[str]]

    def column(self, number: int) -> list[Any]:
        return [row[number] for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    def arrow(self, schema: pa.Schema | None) -> pa.Table:
        values = [pa.array(self.column(number), pa.string()) for number in range(len(self.names))]
        return pa.table(values, names=list(self.names))

    def cells(self) -> list[list[str]]:
        return self.rows


@final
@dataclass(frozen=True)
class Records(Chunk):
    """Rows of named values, as a jsonl has them.

    Attributes:
        keys: of the columns in ``rows``, where they may have spaces around them.
    """

    names: Sequence[str]
    lines: Sequence[int]
    rows: list[dict[str, Any]]
    keys: Sequence[str]

    def column(self, number: int) -> list[Any]:
        return [row.get(self.keys[number]) for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        return self.rows

    def arrow(self, schema: pa.Schema | None) -> pa.Table:
        try:
            values = [
                pa.array(self.column(number), schema.field(number).type if schema is not None else None)
                for number in range(len(self.keys))
            ]
            return pa.table(values, names=list(self.keys))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as problem:
            reason = " ".join(str(problem).split())
            raise UserError(
                f"a column has values of several types ({reason}), which parquet cannot hold: write to a .jsonl file"
            ) from problem


@final
@dataclass(frozen=True)
class Typed(Chunk):
    """Rows of a parquet file."""

    names: Sequence[str]
    lines: Sequence[int]
    batch: pa.RecordBatch

    def column(self, number: int) -> list[Any]:
        return self.batch.column(number).to_pylist()

    def records(self) -> list[dict[str, Any]]:
        return self.batch.to_pylist()

    def arrow(self, schema: pa.Schema | None) -> pa.Table:
        return pa.Table.from_batches([self.batch])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list, bool)) else str(value)
