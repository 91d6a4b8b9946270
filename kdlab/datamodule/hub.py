"""A dataset of the Hugging Face hub, or one saved by ``datasets``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab.datamodule.corpus import Corpus
from kdlab.datamodule.frame import Frame
from kdlab.datamodule.table import Columns
from kdlab.error import UserError
from kdlab.fetch import cache, once, permitted


@dataclass(kw_only=True, eq=False, repr=False)
class Hub(Columns):
    """Labels are in a column of class labels or of any values; -1 and None are unlabelled.

    Its own splits are kept. A val or test split that is lacking, or has no labels, is cut from the training rows.

    Args:
        name: a dataset of the hub (fetched once, with download=true), or a folder that ``save_to_disk`` wrote.
        config: the dataset's configuration.
        train_split, val_split, test_split: the names of its splits; ``val_split`` and ``test_split`` may be lacking.
    """

    name: str
    config: str | None = None
    train_split: str = "train"
    val_split: str = "validation"
    test_split: str = "test"

    def corpus(self) -> Corpus:
        return self.gathered(*self._frame())

    def column(self, name: str) -> list[Any]:
        return list(self._frame()[0].column(name, "name"))

    def _frame(self) -> tuple[Frame, list[str]]:
        """The rows of all splits, and the split of each; finds the names of the labels where the data has them."""
        parts = self._parts()
        given = ((self.train_split, "train"), (self.val_split, "val"), (self.test_split, "test"))
        there = [(parts[name], name, word) for name, word in given if name in parts]
        names = list(there[0][0].column_names)
        for part, name, _ in there:
            if list(part.column_names) != names:
                raise UserError(
                    f"{self.name}: the split {name} has the columns {', '.join(part.column_names)}, and the split "
                    f"{there[0][1]} has {', '.join(names)}: they must be the same"
                )
        columns = [[value for part, _, _ in there for value in part[column][:]] for column in names]
        for part, _, _ in there[:1]:
            for index, column in enumerate(names):
                columns[index], known = _named(columns[index], part.features[column])
                if known and self.label_names is None and self.label_map is None and column == str(self.label_column):
                    self.label_names = known
                elif column == str(self.label_column):
                    columns[index] = [None if value == -1 and value is not True else value for value in columns[index]]
        words = [word for part, _, word in there for _ in range(len(part))]
        rows = [f"{row} of {name}" for part, name, _ in there for row in range(1, len(part) + 1)]
        return Frame(self.name, "row", names, columns, rows), words

    def _parts(self) -> dict[str, Any]:
        from datasets import Dataset, load_from_disk

        folder = self._folder()
        try:
            found = load_from_disk(str(folder))
        except (OSError, ValueError) as error:
            raise UserError(f"datamodule.name: {folder} is no folder that datasets' save_to_disk wrote") from error
        parts = {self.train_split: found} if isinstance(found, Dataset) else dict(found)
        if self.train_split not in parts:
            raise UserError(
                f"datamodule.train_split='{self.train_split}' is not in {self.name}: it has {', '.join(parts)}"
            )
        return parts

    def _folder(self) -> Path:
        """The dataset's folder on this machine; fetched if it may be."""
        if (given := Path(self.name).expanduser()).is_dir():
            return given
        key = hashlib.sha256(f"{self.name} {self.config}".encode()).hexdigest()[:8]
        folder = cache() / "dataset" / f"{self.name.replace('/', '--')}-{key}"
        if not folder.exists() and not permitted(self.download):
            raise UserError(
                f"datamodule.name='{self.name}' is no folder and not in the cache at {folder}: "
                "add download=true to fetch it once, or give a folder that datasets' save_to_disk wrote"
            )
        return once(folder, self._fetch)

    def _fetch(self, new: Path) -> None:
        from datasets import load_dataset

        try:
            load_dataset(self.name, self.config).save_to_disk(str(new))
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"the dataset '{self.name}' cannot be fetched from the hub: {reason}") from error


def _named(values: list[Any], feature: Any) -> tuple[list[Any], list[str] | None]:
    """A column with the names of its classes, where it has class labels, alone or in lists; and all of these names."""
    from datasets import ClassLabel

    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else feature)
    if not isinstance(inner, ClassLabel):
        return values, None

    def name(value: Any) -> str | None:
        return None if value is None or value < 0 else inner.names[value]

    if inner is feature:
        return [name(value) for value in values], list(inner.names)
    return [None if value is None else [name(each) for each in value] for value in values], list(inner.names)
