"""A file of your own with a tag for each word: CoNLL columns, or lists of tokens and tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab.datamodule.columns import Reading
from kdlab.datamodule.frame import read
from kdlab.datamodule.tag_data import TagData
from kdlab.datamodule.tag_file import TABLES, Tagged, of_columns, of_table
from kdlab.error import UserError
from kdlab.fetch import local
from kdlab.value import File, Label


@dataclass(kw_only=True, eq=False, repr=False)
class TagFile(TagData):
    """Words and tags of a file; a sentence without tags is unlabelled.

    Args:
        path: a jsonl, json or parquet file with a list of tokens and one of tags a row; any other file has a token and
            its tag a line, in columns, and an empty line between sentences; or a package path.
        token_column, tag_column: the names of the lists, or the numbers of the columns, from 0, or from -1 at the end;
            None: ``tokens`` and ``tags``, or the first and the last. ``tag_column=""``: there are no tags.
        label_names: the tags, in the order of the logits; None: those found, ``O`` first.
        split_column: of lists, the column with train, val or test; None: cut by fractions.
        encoding: of the text; None: UTF-8.
    """

    path: File
    token_column: Any = None
    tag_column: Any = None
    label_names: Sequence[Label] | None = None
    split_column: Any = None
    encoding: str | None = None

    def order(self) -> Sequence[str] | None:
        return None if self.label_names is None else [str(name) for name in self.label_names]

    def described(self) -> str:
        return self.path

    def sentences(self) -> tuple[Tagged, list[str] | None]:
        file = Path(local(self.path, self.download))
        if not str(file).endswith(TABLES):
            if self.split_column is not None:
                raise UserError(
                    f"datamodule.split_column={self.split_column} names a column of lists, and {self.path} has a token "
                    "a line: leave it out"
                )
            tag = None if self.tag_column == "" else self._number("tag_column", -1)
            return of_columns(file, self.path, self._number("token_column", 0), tag, self.encoding), None
        frame = read(file, self.path, self.encoding, None).without_empty()
        split = None if self.split_column is None else Reading().splits(frame, self.split_column)
        named = None if self.tag_column == "" else str(self.tag_column or "tags")
        return of_table(frame, str(self.token_column or "tokens"), named, self.order()), split

    def _number(self, key: str, usual: int) -> int:
        value = getattr(self, key)
        if value is None:
            return usual
        try:
            return int(value)
        except ValueError as problem:
            raise UserError(
                f"datamodule.{key} is '{value}', but {self.path} has a token a line: give the number of its column, 0 "
                "the first, -1 the last; names are for the lists of a .jsonl file"
            ) from problem
