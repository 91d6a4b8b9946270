"""A file of dialogues of your own: messages with roles, or prompts and completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab.datamodule.chat_data import ChatData
from kdlab.datamodule.columns import Reading
from kdlab.datamodule.corpus import Corpus
from kdlab.datamodule.dialogue import ASSISTANT, ROLES, Dialogue, Format, Message, dialogue
from kdlab.datamodule.frame import Frame, read
from kdlab.error import UserError
from kdlab.fetch import local
from kdlab.value import File


@dataclass(kw_only=True, eq=False, repr=False)
class Chat(ChatData):
    """A jsonl, json, parquet, csv, tsv or xlsx file, plain or with gzip; a row is a dialogue.

    Args:
        path: the file, or a package path.
        messages_column: the column of messages: a list of objects, or such a list as JSON. Where the file lacks it,
            the prompt and the completion are the dialogue; None: they are in any case.
        prompt_column, completion_column: texts, or lists of messages.
        role_key, content_key: the keys of a message's role and text.
        roles: names of the file for the roles user, assistant, system and tool; None: the file has these names.
        split_column: the column with train, val (validation, valid, dev) or test; None: cut by fractions.
        encoding: of the text, such as latin-1, gb18030 or utf-16; None: UTF-8.
        separator: between the fields of a csv; None: a comma, or in a tsv a tab.
    """

    path: File
    messages_column: Any = "messages"
    prompt_column: Any = "prompt"
    completion_column: Any = "completion"
    role_key: str = "role"
    content_key: str = "content"
    roles: Mapping[str, str] | None = None
    split_column: Any = None
    encoding: str | None = None
    separator: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.roles is not None and (
            not isinstance(self.roles, Mapping) or not set(map(str, self.roles.values())) <= set(ROLES)
        ):
            raise UserError(
                f"datamodule.roles={self.roles} must give each role of the file one of {', '.join(ROLES)}: "
                "{human:user,gpt:assistant}"
            )

    def corpus(self) -> Corpus:
        frame = self._frame()
        split = None if self.split_column is None else Reading().splits(frame, self.split_column)
        cells, notices = self._cells(frame)
        values = [self._dialogue(frame, index, cell) for index, cell in enumerate(cells)]
        return Corpus(
            frame.where, values, [None] * len(values), [], split, row_name=frame.row_name,
            notices=[*frame.notices, *notices],
        )  # fmt: skip

    def column(self, name: str) -> list[Any]:
        return list(self._frame().column(name, "path"))

    def _frame(self) -> Frame:
        file = Path(local(self.path, self.download))
        return read(file, self.path, self.encoding, self.separator).without_empty()

    def _cells(self, frame: Frame) -> tuple[Sequence[Any], list[str]]:
        """The messages of each row, or its prompt and completion; and a notice where the file has both."""
        pair = [self.prompt_column, self.completion_column]
        both = all(str(name) in frame.names for name in pair)
        if self.messages_column is not None and (str(self.messages_column) in frame.names or not both):
            missing = str(self.messages_column) not in frame.names
            if missing and any(str(name) in frame.names for name in pair):
                (absent,) = [number for number, name in enumerate(pair) if str(name) not in frame.names]
                frame.column(pair[absent], ("prompt_column", "completion_column")[absent])
            if missing:
                raise UserError(
                    f"{frame.where} has neither a column '{self.messages_column}' nor '{pair[0]}' and '{pair[1]}': it "
                    f"has {', '.join(frame.names)[:300]}: set datamodule.messages_column, or prompt_column and "
                    "completion_column"
                )
            found = frame.column(self.messages_column, "messages_column")
            unread = [f"the columns '{pair[0]}' and '{pair[1]}' are not read, as there is '{self.messages_column}'"]
            return found, unread * both
        prompts, completions = (
            frame.column(name, option)
            for name, option in zip(pair, ("prompt_column", "completion_column"), strict=True)
        )
        return list(zip(prompts, completions, strict=True)), []

    def _dialogue(self, frame: Frame, index: int, cell: Any) -> Dialogue:
        where = f"{frame.where}: {frame.row_name(index)}"
        how = Format(self.role_key, self.content_key, self.roles or {})
        try:
            if isinstance(cell, tuple):
                messages: list[Message] = [*how.turns(cell[0], "user"), *how.turns(cell[1], ASSISTANT)]
            else:
                messages = how.messages(cell)
            return dialogue(messages, where)
        except ValueError as problem:
            raise UserError(f"{where} {problem}") from problem
