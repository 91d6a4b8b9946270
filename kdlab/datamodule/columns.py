"""The text and label columns of a table and the reading of their cells, without importing torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kdlab.datamodule import cell
from kdlab.datamodule.corpus import PAIR, Corpus
from kdlab.datamodule.frame import Frame
from kdlab.error import UserError

WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
FIELD = re.compile(r"\{([^{}]+)\}")


@dataclass(kw_only=True)
class Reading:
    """Reads the texts and labels of a table; the arguments are those of :class:`kdlab.datamodule.table.Columns`."""

    text_column: Any = "text"
    label_column: Any = "label"
    label_names: Sequence[Any] | None = None
    label_map: Mapping[Any, Any] | None = None
    multi_label: bool = False
    label_separator: str = ";"

    def __post_init__(self) -> None:
        if self.label_map is not None and not isinstance(self.label_map, Mapping):
            raise UserError(
                f"datamodule.label_map={self.label_map} must give each label a name: {{0:negative,1:positive}}"
            )
        if self.label_map and any(isinstance(name, bool) for name in self.label_map.values()):
            raise UserError(
                f"datamodule.label_map={dict(self.label_map)} names a label true or false, which is also what YAML "
                "makes of yes and no: write names in quotes: {0:'no',1:'yes'}"
            )
        if self.label_names is not None:
            if isinstance(self.label_names, str) or not isinstance(self.label_names, Sequence):
                raise UserError(f"datamodule.label_names={self.label_names} must be a list: [negative,positive]")
            names = self._names()
            if len(set(names)) < len(names) or "" in names:
                raise UserError(f"datamodule.label_names={list(self.label_names)} must be different and not empty")
            if any(isinstance(name, bool) for name in self.label_names):
                raise UserError(
                    f"datamodule.label_names={list(self.label_names)} has true or false, which is also what YAML makes "
                    "of yes and no: write labels in quotes: ['no','yes']"
                )
        self.multi_label = self.multi_label or _several(self.label_column)

    def gathered(self, frame: Frame, split: list[str] | None = None) -> Corpus:
        """The texts and labels of a table.

        Raises:
            UserError: a column that is not there, or a cell that cannot be read.
        """
        texts = self._texts(frame)
        labels, names = self._labels(frame)
        return Corpus(frame.where, texts, labels, names, split, self.multi_label, frame.row_name, list(frame.notices))

    def _texts(self, frame: Frame) -> list[str]:
        names = text_columns(self.text_column, frame.names)
        return joined(self.text_column, names, [self._column(frame, name) for name in names])

    def _column(self, frame: Frame, name: Any) -> list[str]:
        values = frame.column(name, "text_column")
        if all(type(value) is str for value in values):
            found = [value.strip() for value in values]
        else:
            message = _message(frame, name, "must have a text")
            found = [each or "" for each in cell.each(values, cell.text, message)]
        return found

    def _labels(self, frame: Frame) -> tuple[list[Any], list[str] | None]:
        """The labels of each row, and their order, where it is given."""
        names = None if self.label_names is None else self._names()
        if self.label_column is None:
            return [None] * len(frame), names
        if _several(self.label_column):
            return self._of_columns(frame), names or [self._named(str(name)) or "" for name in self.label_column]
        values = frame.column(self.label_column, "label_column")
        if not self.multi_label:
            message = _message(
                frame, self.label_column, "must have one label; for several a row set datamodule.multi_label=true"
            )
            found = cell.each(values, cell.label, message)
            return [self._mapped(label, index, frame) for index, label in enumerate(found)], names
        if (count := cell.hot(values)) is not None:
            return self._of_hot(values, count, names), names
        message = _message(frame, self.label_column, "must have labels")
        several = cell.each(values, lambda value: cell.names(value, self.label_separator), message)
        return [
            None if row is None else [name for one in row if (name := self._mapped(one, index, frame))]
            for index, row in enumerate(several)
        ], names

    def _names(self) -> list[str]:
        assert self.label_names is not None
        return [cell.label(name) or "" for name in self.label_names]

    def _of_columns(self, frame: Frame) -> list[list[str] | None]:
        """With a column a label: the labels whose column has a 1; None where all are empty."""
        columns = []
        for name in self.label_column:
            message = _message(frame, name, "must have 0 or 1, as datamodule.label_column names several columns")
            columns.append(cell.each(frame.column(name, "label_column"), cell.yes, message))
        names = [self._named(str(name)) for name in self.label_column]
        rows: list[list[str] | None] = []
        for index, row in enumerate(zip(*columns, strict=True)):
            if None in row and any(value is not None for value in row):
                empty = self.label_column[row.index(None)]
                raise UserError(
                    f"{frame.where}: {frame.row_name(index)} has nothing in the column '{empty}', but something in "
                    "other label columns: fill all of them or none"
                )
            rows.append(
                None if None in row else [name for name, value in zip(names, row, strict=True) if value and name]
            )
        return rows

    def _of_hot(self, values: Sequence[Any], count: int, names: list[str] | None) -> list[list[str] | None]:
        if names is None or len(names) != count:
            raise UserError(
                f"the column '{self.label_column}' has lists with a 0 or 1 for each of {count} labels: set "
                f"datamodule.label_names to the names of these {count}, in their order"
            )
        return [
            [name for name, one in zip(names, value, strict=True) if one] if cell.several(value) else None
            for value in values
        ]

    def _named(self, label: str) -> str | None:
        """The name of a label in ``label_map``; itself, where it is not there."""
        return self._map.get(label, label)

    def _mapped(self, label: str | None, index: int, frame: Frame) -> str | None:
        if label is None or not self._map:
            return label
        if label not in self._map:
            raise UserError(
                f"{frame.where}: {frame.row_name(index)} has the label '{label[:80]}', which datamodule.label_map does "
                f"not name ({', '.join(self._map)[:300]}): add it"
            )
        return self._map[label]

    @cached_property
    def _map(self) -> dict[str, str | None]:
        return {cell.label(key) or "": cell.label(name) for key, name in (self.label_map or {}).items()}

    def splits(self, frame: Frame, name: str) -> list[str]:
        """``train``, ``val`` or ``test``, of each row, from a column.

        Raises:
            UserError: a row has another word.
        """
        found = []
        for index, value in enumerate(frame.column(name, "split_column")):
            try:
                word = (cell.text(value) or "").lower()
            except ValueError as problem:
                word = str(problem)
            if word not in WORDS:
                raise UserError(
                    f"{frame.where}: {frame.row_name(index)} has '{word[:80]}' in the column '{name}', which may have "
                    f"{', '.join(WORDS)}"
                )
            found.append(WORDS[word])
        return found


def text_columns(given: Any, there: Collection[str] = ()) -> list[str]:
    """The columns that ``text_column`` names.

    Args:
        there: the columns of the table: a name of them is no template.

    Raises:
        UserError: they are neither one, nor a pair, nor a template.

    Example:
        >>> text_columns("text"), text_columns(["a", "b"]), text_columns("{title}: {body}")
        (['text'], ['a', 'b'], ['title', 'body'])
    """
    if _several(given):
        if len(given) != 2:
            raise UserError(
                f"datamodule.text_column={list(given)} must be a column, two columns for a pair, or a template of any "
                "number: '{title}: {body}'"
            )
        return [str(name) for name in given]
    names = FIELD.findall(str(given))
    return [str(given)] if not names or str(given) in there else names


def joined(given: Any, names: Sequence[str], columns: Sequence[Sequence[str]]) -> list[str]:
    """One text a row, of the texts in the columns that ``text_column`` names; empty where all of them are.

    Example:
        >>> joined("{title}: {body}", ["title", "body"], [["Film"], ["good"]])
        ['Film: good']
    """
    plain = [[text.replace(PAIR, " ") for text in column] for column in columns]
    if _several(given):
        return [PAIR.join(pair) if any(pair) else "" for pair in zip(*plain, strict=True)]
    if list(names) == [str(given)]:
        return plain[0]
    return [_filled(str(given), dict(zip(names, row, strict=True))) for row in zip(*plain, strict=True)]


def _filled(template: str, texts: Mapping[str, str]) -> str:
    """The template with the texts in it; empty where all are."""
    return FIELD.sub(lambda match: texts[match[1]], template) if any(texts.values()) else ""


def _several(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _message(frame: Frame, column: Any, rule: str) -> Any:
    return lambda index, found: (
        f"{frame.where}: {frame.row_name(index)} has {found} in the column '{column}', which {rule}"
    )
