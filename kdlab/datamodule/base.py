"""Texts with labels: what all text data sets share."""

from __future__ import annotations

import hashlib
from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdlab.datamodule import tokenizer
from kdlab.datamodule.corpus import PAIR, Corpus, counted
from kdlab.datamodule.data import Data
from kdlab.datamodule.odd import odd
from kdlab.datamodule.packed import PackedRows, best_fit_decreasing
from kdlab.datamodule.processor.base import Encoded, Processor
from kdlab.datamodule.processor.text import Text
from kdlab.datamodule.target import Labels
from kdlab.error import UserError
from kdlab.value import Count


@dataclass(kw_only=True, eq=False, repr=False)
class TextData(Data, ABC):
    """Texts with labels. A data set implements :meth:`corpus`, which reads it; the rest is here.

    Args:
        tokenizer: a folder, ``package:…``, a hub id, or ``train:wordpiece:8000``; after setup the tokenizer.
        max_length: tokens; longer texts are cut.
        pack: whether a training row is made of several texts, up to ``max_length`` tokens, which do not see each other.
    """

    tokenizer: Any
    max_length: Count = 128
    pack: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tokenizer_spec = str(self.tokenizer)
        if self.max_length < 1:
            raise UserError(f"datamodule.max_length is {self.max_length}, and must be 1 or more")
        for name in ("augment", "select", "curriculum", "per_class", "budget") if self.pack else ():
            if getattr(self, name) is not None:
                raise UserError(
                    f"datamodule.{name} is about single texts, and datamodule.pack=true joins them: set one"
                )

    @property
    def texts(self) -> list[str]:
        """All texts, by row id."""
        return self.values

    @property
    def packs(self) -> bool:
        return self.pack

    def packed(self, encoded: Encoded, order: np.ndarray) -> tuple[Encoded, np.ndarray]:
        """With ``pack``, the training rows in as few rows as fit; those that are evaluated stay apart."""
        if not self.pack:
            return encoded, order
        train = self.splits["train"]
        members = [train[one] for one in best_fit_decreasing(encoded.lengths[train], self.max_length)]
        splits, texts = {"train": np.arange(len(members))}, len(train)
        for name in ("val", "test"):
            splits[name] = np.arange(len(members), len(members) + len(self.splits[name]))
            members += [np.array([row]) for row in self.splits[name].tolist()]
        found = PackedRows(encoded, members, self.processor.padding)
        self._contents = [[self.questions[row] for row in one.tolist()] for one in members]
        self.keys = ["".join(self.keys[row] for row in one.tolist()) for one in members]
        self.splits, self.questions = splits, ["".join(one) for one in self._contents]
        self._target = Labels(tuple(self.labels), np.full(len(members), -1, np.int64))
        self.multi_label = False
        self.fingerprint = hashlib.sha256(f"{self.fingerprint} {found.digest}".encode()).hexdigest()[:32]
        share = found.lengths[splits["train"]].sum() / (len(splits["train"]) * self.max_length)
        rows = counted(len(splits["train"]), "row", "rows")
        self._notice(f"{texts:,} training texts are packed into {rows} of {self.max_length} tokens, {share:.0%} full")
        return found, np.array([order[one[0]] for one in members])

    def contents(self, split: str) -> list[str]:
        if not self.pack:
            return super().contents(split)
        return [key for row in self.splits[split].tolist() for key in self._contents[row]]

    def make_processor(self, values: Sequence[Any]) -> Processor:
        self.tokenizer = tokenizer.load(self.tokenizer_spec, values, self.download)
        pretrained, pairs = not self.tokenizer_spec.startswith("train:"), bool(values) and PAIR in values[0]
        return Text(self.tokenizer, self.max_length, pretrained, pairs)

    def check_rows(self, corpus: Corpus) -> None:
        corpus.check()
        self.check_classes(corpus)

    def oddities(self, corpus: Corpus) -> list[str]:
        return odd(corpus, self.target.codes, self.labels, self.splits)
