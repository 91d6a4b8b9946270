"""Pairs of texts in a file of your own: a source that is read, and a target that is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab.datamodule import tokenizer
from kdlab.datamodule.base import TextData
from kdlab.datamodule.corpus import PAIR, Corpus, counted
from kdlab.datamodule.frame import Frame, read
from kdlab.datamodule.pair_columns import PairReading
from kdlab.datamodule.processor.base import Processor
from kdlab.datamodule.processor.pairs import Pairs as Processed
from kdlab.datamodule.processor.pairs import sides
from kdlab.error import UserError
from kdlab.fetch import local
from kdlab.value import Count, File


@dataclass(kw_only=True, eq=False, repr=False)
class PairData(TextData):
    """Pairs of a source and a target. A data set implements ``corpus``, whose values are both, joined by ``PAIR``.

    No source is in two splits, whatever its targets are.

    Args:
        target_tokenizer: of the targets; None: that of the sources. Where it is made of the training texts, it is made
            of the targets, or of both sides where these share it.
        max_target_length: tokens of a target, its end token included; None: ``max_length``.
    """

    target_tokenizer: str | None = None
    max_target_length: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_counts("max_target_length")
        if self.augment is not None:
            raise UserError(
                "datamodule/augment changes the tokens of one text, and a pair has two, which would not fit together "
                "then: set datamodule/augment=null"
            )

    def question(self, value: str) -> str:
        return value.partition(PAIR)[0]

    def make_processor(self, values: Sequence[str]) -> Processor:
        sources, targets = sides(values)
        own, other = self.tokenizer_spec, self.target_tokenizer
        longest = self.max_length if self.max_target_length is None else self.max_target_length
        trained = tuple(not spec.startswith(tokenizer.TRAIN) for spec in (own, other or own))
        if other is None:
            self.tokenizer = target = tokenizer.load(own, [*sources, *targets], self.download)
        else:
            self.tokenizer = tokenizer.load(own, sources, self.download)
            target = tokenizer.load(other, targets, self.download)
        return Processed(self.tokenizer, target, self.max_length, longest, (trained[0], trained[1]))

    def oddities(self, corpus: Corpus) -> list[str]:
        twice = sum(count - 1 for count in Counter(corpus.values).values())
        return (
            [f"{counted(twice, 'row has', 'rows have')} the source and the target of an earlier row"] if twice else []
        )


@dataclass(kw_only=True, eq=False, repr=False)
class Pairs(PairData):
    """Two columns of a csv, tsv, jsonl, json, parquet or xlsx file, plain or with gzip.

    Args:
        path: the file, or a package path.
        source_column, target_column: names of the columns.
        split_column: the column with train, val (validation, valid, dev) or test; None: cut by fractions.
        incomplete: whether rows without a source or a target are refused, or dropped with a notice.
        encoding: of the text, such as latin-1, gb18030 or utf-16; None: UTF-8.
        separator: between the fields of a csv; None: a comma, or in a tsv a tab.
    """

    path: File
    source_column: Any = "source"
    target_column: Any = "target"
    split_column: Any = None
    incomplete: str = "refuse"
    encoding: str | None = None
    separator: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reading()

    def reading(self) -> PairReading:
        """The reader of the columns. Errors: UserError where the arguments do not fit together."""
        return PairReading(
            source_column=self.source_column,
            target_column=self.target_column,
            split_column=self.split_column,
            incomplete=self.incomplete,
        )

    def corpus(self) -> Corpus:
        return self.reading().gathered(self._frame())

    def column(self, name: str) -> list[Any]:
        frame = self._frame()
        return list(self.reading().complete(frame).column(name, "path"))

    def _frame(self) -> Frame:
        file = Path(local(self.path, self.download))
        return read(file, self.path, self.encoding, self.separator).without_empty()

    def check_rows(self, corpus: Corpus) -> None:
        corpus.check()
        if not corpus.values:
            raise UserError(f"{corpus.where} has no rows")
