"""Texts with labels: what all text data sets share."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdlab.datamodule import tokenizer
from kdlab.datamodule.corpus import Corpus
from kdlab.datamodule.data import Data
from kdlab.datamodule.odd import odd
from kdlab.datamodule.processor.base import Processor
from kdlab.datamodule.processor.text import Text
from kdlab.error import UserError
from kdlab.value import Count


@dataclass(kw_only=True, eq=False, repr=False)
class TextData(Data, ABC):
    """Texts with labels. A data set implements :meth:`corpus`, which reads it; the rest is here.

    Args:
        tokenizer: a folder, ``package:…``, a hub id, or ``train:wordpiece:8000``; after setup the tokenizer.
        max_length: tokens; longer texts are cut.
    """

    tokenizer: Any
    max_length: Count = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tokenizer_spec = str(self.tokenizer)
        if self.max_length < 1:
            raise UserError(f"datamodule.max_length is {self.max_length}, and must be 1 or more")

    @property
    def texts(self) -> list[str]:
        """All texts, by row id."""
        return self.values

    def make_processor(self, values: Sequence[Any]) -> Processor:
        self.tokenizer = tokenizer.load(self.tokenizer_spec, values, self.download)
        return Text(self.tokenizer, self.max_length, pretrained=not self.tokenizer_spec.startswith("train:"))

    def check_rows(self, corpus: Corpus) -> None:
        corpus.check()
        if not self.whole:
            corpus.check_classes()

    def oddities(self, corpus: Corpus) -> list[str]:
        return odd(corpus, self.target.codes, self.labels, self.splits)
