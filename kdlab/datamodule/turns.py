"""The columns of dialogues in a table and the reading of their cells, without importing torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdlab.datamodule.columns import Reading
from kdlab.datamodule.corpus import Corpus
from kdlab.datamodule.dialogue import ASSISTANT, ROLES, Dialogue, Format, dialogue
from kdlab.datamodule.frame import Frame
from kdlab.error import UserError

OPTIONS = ("prompt_column", "completion_column")


@dataclass(kw_only=True)
class Turns:
    """Reads the dialogues of a table; the arguments are those of :class:`kdlab.datamodule.chat.Chat`."""

    messages_column: Any = "messages"
    prompt_column: Any = "prompt"
    completion_column: Any = "completion"
    role_key: str = "role"
    content_key: str = "content"
    roles: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        roles = self.roles
        if roles is not None and (not isinstance(roles, Mapping) or not set(map(str, roles.values())) <= set(ROLES)):
            raise UserError(
                f"datamodule.roles={roles} must give each role of the file one of {', '.join(ROLES)}: "
                "{human:user,gpt:assistant}"
            )

    def gathered(self, frame: Frame, split_column: Any = None) -> Corpus:
        """The dialogues of a table.

        Args:
            split_column: the column with train, val or test; None: there is none.

        Raises:
            UserError: a column that is not there, or a row that is no dialogue with an answer.
        """
        split = None if split_column is None else Reading().splits(frame, split_column)
        cells, notices = self._cells(frame)
        values = [self._dialogue(frame, index, cell) for index, cell in enumerate(cells)]
        notices = [*frame.notices, *notices]
        return Corpus(frame.where, list[Any](values), [None] * len(values), [], split, row_name=frame.row_name,
                      notices=notices)  # fmt: skip

    def _cells(self, frame: Frame) -> tuple[Sequence[Any], list[str]]:
        """The messages of each row, or its prompt and completion; and a notice where the file has both."""
        messages, pair = self.messages_column, (self.prompt_column, self.completion_column)
        there = [str(name) in frame.names for name in pair]
        if messages is None or (str(messages) not in frame.names and any(there)):
            columns = [frame.column(name, option) for name, option in zip(pair, OPTIONS, strict=True)]
            return list(zip(*columns, strict=True)), []
        if str(messages) not in frame.names:
            raise UserError(
                f"{frame.where} has neither a column '{messages}' nor '{pair[0]}' and '{pair[1]}': it has "
                f"{', '.join(frame.names)[:300]}: set datamodule.messages_column, or prompt_column and "
                "completion_column"
            )
        unread = [f"the columns '{pair[0]}' and '{pair[1]}' are not read, as there is '{messages}'"] * all(there)
        return frame.column(messages, "messages_column"), unread

    def _dialogue(self, frame: Frame, index: int, cell: Any) -> Dialogue:
        where = f"{frame.where}: {frame.row_name(index)}"
        how = Format(self.role_key, self.content_key, self.roles or {})
        try:
            turns = how.turns(cell[0], "user") + how.turns(cell[1], ASSISTANT) if isinstance(cell, tuple) else None
            return dialogue(how.messages(cell) if turns is None else turns, where)
        except ValueError as problem:
            raise UserError(f"{where} {problem}") from problem
