"""The prompts of a file's rows, which a trained model answers: texts, or dialogues; without importing torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from kdlab.datamodule.chunk import Chunk
from kdlab.datamodule.columns import joined, text_columns
from kdlab.datamodule.dialogue import Dialogue, Format, dialogue
from kdlab.datamodule.stream import Stream
from kdlab.error import UserError


class Values(ABC):
    """What a model reads of each row of a file."""

    @abstractmethod
    def of(self, rows: Stream, chunk: Chunk) -> list[Any]:
        """A value for each row; an empty one where the row has nothing.

        Raises:
            UserError: a row that has something else; the message names it.
        """

    def check(self, rows: Stream) -> None:
        """Read all rows. Errors: as :meth:`of`."""
        for chunk in rows.chunks() if rows.total is not None else ():
            self.of(rows, chunk)


@final
@dataclass(frozen=True)
class Texts(Values):
    """Texts, pairs of texts, or texts that a template makes.

    Attributes:
        column: the column, a pair of columns or a template.
        numbers: of these columns in the file.
    """

    column: str | list[str]
    numbers: Sequence[int]

    def of(self, rows: Stream, chunk: Chunk) -> list[str]:
        names = text_columns(self.column, rows.names)
        return joined(self.column, names, [rows.texts(chunk, number) for number in self.numbers])


@final
@dataclass(frozen=True)
class Dialogues(Values):
    """Dialogues of one column: messages, or a text by the user.

    Attributes:
        number: of the column in the file.
        messages: whether a text is a list of messages as JSON.
        how: the names that the file has for the parts of a message.
    """

    number: int
    messages: bool = False
    how: Format = field(default_factory=Format)

    def of(self, rows: Stream, chunk: Chunk) -> list[Dialogue | None]:
        cells = zip(chunk.lines, chunk.column(self.number), strict=True)
        return [self._read(cell, f"{rows.where}: {rows.unit} {line}") for line, cell in cells]

    def _read(self, cell: Any, where: str) -> Dialogue | None:
        if cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, Sequence) and not cell):
            return None
        try:
            found = self.how.messages(cell) if self.messages else self.how.turns(cell, "user")
            return dialogue(found, where, answered=False)
        except ValueError as problem:
            raise UserError(f"{where} {problem}") from problem


def format_of(options: Mapping[str, Any]) -> Format:
    """The names of a message's parts, from the options of a data set of dialogues."""
    given = {name: options.get(name) or getattr(Format, name) for name in ("role_key", "content_key")}
    return Format(**given, roles=options.get("roles") or {})
