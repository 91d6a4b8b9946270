"""A dataset of the Hugging Face hub, or one saved by ``datasets``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from kdlab.datamodule.base import TextData
from kdlab.datamodule.corpus import Corpus
from kdlab.datamodule.table import cell
from kdlab.error import UserError
from kdlab.fetch import cache, once


@dataclass(kw_only=True, eq=False, repr=False)
class Hub(TextData):
    """One label a row, in a column of class labels or of any values; -1 and None are unlabelled.

    Its own splits are kept. A val or test split that is lacking, or has no labels, is cut from the training rows.

    Args:
        name: a dataset of the hub (fetched once, with download=true), or a folder that ``save_to_disk`` wrote.
        config: the dataset's configuration.
        text_column, label_column: their names.
        train_split, val_split, test_split: the names of its splits; ``val_split`` and ``test_split`` may be lacking.
    """

    name: str
    config: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    train_split: str = "train"
    val_split: str = "validation"
    test_split: str = "test"

    def corpus(self) -> Corpus:
        from datasets import ClassLabel, Dataset, load_from_disk

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
        texts: list[str] = []
        labels: list[str | None] = []
        split: list[str] = []
        feature = None
        for name, word in ((self.train_split, "train"), (self.val_split, "val"), (self.test_split, "test")):
            if name not in parts:
                continue
            part = parts[name]
            for option in ("text_column", "label_column"):
                if (column := getattr(self, option)) not in part.column_names:
                    there = ", ".join(part.column_names)
                    raise UserError(f"datamodule.{option}='{column}' is not in {self.name}/{name}, which has: {there}")
            feature = part.features[self.label_column]
            values = part[self.label_column]
            if isinstance(feature, ClassLabel):
                labels += [None if value is None or value < 0 else feature.names[value] for value in values]
            else:
                labels += [None if value == -1 else cell(value) for value in values]
            texts += [cell(value) or "" for value in part[self.text_column]]
            split += [word] * len(part)
        names = list(feature.names) if isinstance(feature, ClassLabel) else None
        return Corpus(self.name, texts, labels, names, split)

    def _folder(self) -> Path:
        """Where the dataset lies on this machine; fetched if it may be."""
        if (given := Path(self.name).expanduser()).is_dir():
            return given
        key = hashlib.sha256(f"{self.name} {self.config}".encode()).hexdigest()[:8]
        folder = cache() / "dataset" / f"{self.name.replace('/', '--')}-{key}"
        if not folder.exists() and not self.download:
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
