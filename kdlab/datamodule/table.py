"""A file of your own: a text and a label a row."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kdlab.datamodule.base import TextData
from kdlab.datamodule.corpus import Corpus
from kdlab.error import UserError
from kdlab.fetch import local
from kdlab.value import File

WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}


@dataclass(kw_only=True, eq=False, repr=False)
class Table(TextData):
    """A csv, tsv, jsonl or parquet file. A row with an empty label is unlabelled.

    Args:
        path: the file, or a package path.
        text_column, label_column: their names; None: there are no labels.
        split_column: the column that says train, val (validation, valid, dev) or test; None: cut by fractions.
        label_names: the labels, in the order of the logits; None: those found, sorted.
        multi_label: whether a row has several labels: in one cell with a separator, or a list.
        label_separator: between the labels of a cell.
    """

    path: File
    text_column: str = "text"
    label_column: str | None = "label"
    split_column: str | None = None
    label_names: list[str] | None = None
    multi_label: bool = False
    label_separator: str = ";"

    def corpus(self) -> Corpus:
        frame = read(Path(local(self.path, self.download)))
        for option in ("text_column", "label_column", "split_column"):
            column = getattr(self, option)
            if column is not None and column not in frame.columns:
                there = ", ".join(map(str, frame.columns))
                raise UserError(f"datamodule.{option}='{column}' is not in {self.path}, which has: {there}")
        given = [None] * len(frame) if self.label_column is None else frame[self.label_column]
        return Corpus(
            where=self.path,
            texts=[cell(value) or "" for value in frame[self.text_column]],
            labels=[self._several(each) if self.multi_label else cell(each) for each in given],
            names=None if self.label_names is None else [str(name) for name in self.label_names],
            split=None if self.split_column is None else list(self._splits(frame[self.split_column])),
            multi_label=self.multi_label,
        )

    def _several(self, value: object) -> list[str] | None:
        """The labels of a cell; None where it is empty."""
        if isinstance(value, Iterable) and not isinstance(value, str):
            return [name for each in value if (name := cell(each))]
        text = cell(value)
        return None if text is None else [name.strip() for name in text.split(self.label_separator) if name.strip()]

    def _splits(self, column: Iterable) -> Iterable[str]:
        for row, value in enumerate(column, 1):
            word = (cell(value) or "").lower()
            if word not in WORDS:
                raise UserError(
                    f"{self.path}: row {row} has '{word}' in the column '{self.split_column}', "
                    f"which may have {', '.join(WORDS)}"
                )
            yield WORDS[word]


def read(path: Path) -> pd.DataFrame:
    """The rows of a csv, tsv, jsonl or parquet file.

    Raises:
        UserError: no such file, another extension, or not what the extension says.
    """
    if not path.is_file():
        raise UserError(f"datamodule.path: there is no file {path}")
    try:
        match path.suffix.lower():
            case ".csv" | ".tsv" as suffix:
                separator = "\t" if suffix == ".tsv" else ","
                return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
            case ".jsonl":
                lines = path.read_text("utf-8-sig").split("\n")
                return pd.DataFrame.from_records([json.loads(line) for line in lines if line.strip()]).astype(object)
            case ".parquet":
                return pd.read_parquet(path).astype(object)
    except (
        ValueError,
        OSError,
    ) as error:  # what pandas, pyarrow and json raise about content are all ValueErrors or OSErrors
        reason = str(error).strip().splitlines()
        raise UserError(
            f"{path} cannot be read as {path.suffix.lower()[1:]}: {reason[0] if reason else error}"
        ) from error
    raise UserError(f"datamodule.path: {path} ends in '{path.suffix}', and can be .csv, .tsv, .jsonl or .parquet")


def cell(value: object) -> str | None:
    """A value as text; None where it is empty. 1 and 1.0 are ``1``."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None
