"""A file of dialogues of your own: messages with roles, or prompts and completions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kdlab.datamodule.chat_data import ChatData
from kdlab.datamodule.corpus import Corpus
from kdlab.datamodule.frame import Frame, read
from kdlab.datamodule.turns import Turns
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
        self.turns()

    def turns(self) -> Turns:
        """The reader of the columns. Errors: UserError where the arguments do not fit together."""
        return Turns(**{one.name: getattr(self, one.name) for one in fields(Turns)})

    def corpus(self) -> Corpus:
        return self.turns().gathered(self._frame(), self.split_column)

    def column(self, name: str) -> list[Any]:
        if self.pack:
            raise UserError(f"datamodule.pack=true joins texts, so a row has no value of '{name}': set it to false")
        values = list(self._frame().column(name, "path"))
        return values if self.origin is None else [values[row] for row in self.origin]

    def _frame(self) -> Frame:
        file = Path(local(self.path, self.download))
        return read(file, self.path, self.encoding, self.separator).without_empty()
