"""A file of your own: a text and a label a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kdlab.datamodule.base import TextData
from kdlab.datamodule.columns import Reading
from kdlab.datamodule.corpus import Corpus
from kdlab.datamodule.frame import Frame, read
from kdlab.error import UserError
from kdlab.fetch import local
from kdlab.value import File, Label


@dataclass(kw_only=True, eq=False, repr=False)
class Columns(TextData):
    """The text and label columns of a table and the reading of their cells; a row without a label is
    unlabelled, and one that is empty throughout is left out.

    Args:
        text_column: its name; or two names, whose texts a model reads as a pair; or a template, ``{title}: {body}``.
        label_column: its name; or several, one a label, with 0 or 1 in each; None: there are no labels.
        label_names: the labels, in the order of the logits; None: those found, sorted.
        label_map: names for the labels of the file, such as ``{0: negative, 1: positive}``; None for one leaves its
            rows without a label. None: the labels are as they are.
        multi_label: whether a row has several labels: in one cell with a separator, in a list, or as a list with a 0
            or 1 for each of ``label_names``. Several label columns are that in any case.
        label_separator: between the labels of a cell.
    """

    text_column: Any = "text"
    label_column: Any = "label"
    label_names: Sequence[Label] | None = None
    label_map: Mapping[Any, Any] | None = None
    multi_label: bool = False
    label_separator: str = ";"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.multi_label = self.reading().multi_label

    def reading(self) -> Reading:
        """The reader of the columns. Errors: UserError where the arguments do not fit together."""
        return Reading(**{one.name: getattr(self, one.name) for one in fields(Reading)})

    def gathered(self, frame: Frame, split: list[str] | None = None) -> Corpus:
        """The texts and labels of a table.

        Raises:
            UserError: a column that is not there, or a cell that cannot be read.
        """
        return self.reading().gathered(frame, split)


@dataclass(kw_only=True, eq=False, repr=False)
class Table(Columns):
    """A csv, tsv, jsonl, json, parquet or xlsx file, plain or with gzip.

    Args:
        path: the file, or a package path.
        split_column: the column with train, val (validation, valid, dev) or test; None: cut by fractions.
        encoding: of the text, such as latin-1, gb18030 or utf-16; None: UTF-8.
        separator: between the fields of a csv; None: a comma, or in a tsv a tab.
    """

    path: File
    split_column: Any = None
    encoding: str | None = None
    separator: str | None = None

    def corpus(self) -> Corpus:
        frame = self._frame()
        split = None if self.split_column is None else self.reading().splits(frame, self.split_column)
        return self.gathered(frame, split)

    def column(self, name: str) -> list[Any]:
        if self.pack:
            raise UserError(f"datamodule.pack=true joins texts, so a row has no value of '{name}': set it to false")
        return list(self._frame().column(name, "path"))

    def _frame(self) -> Frame:
        file = Path(local(self.path, self.download))
        return read(file, self.path, self.encoding, self.separator).without_empty()
