"""Rows of words with a tag each: what all such data sets share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kdlab.datamodule import tokenizer
from kdlab.datamodule.base import TextData
from kdlab.datamodule.corpus import Corpus
from kdlab.datamodule.processor.base import Encoded, Processor
from kdlab.datamodule.processor.tagged import WORD, TaggedText, WordRows
from kdlab.datamodule.tag_file import Tagged
from kdlab.datamodule.target import Tags, Target
from kdlab.error import UserError

NO_ENTITY = "O"  # comes first in the order of the tags
ONE_ANSWER = ("augment", "select", "per_class")  # what is about rows with one label


@dataclass(kw_only=True, eq=False, repr=False)
class TagData(TextData, ABC):
    """Sentences with a tag for each word. A data set implements :meth:`sentences`, which reads them.

    The first piece of a word has its tag; the other pieces, and words beyond ``max_length`` tokens, have none.

    Attributes:
        names: the tags, in the order of the logits; None: those found, ``O`` first and the others sorted.
    """

    names: ClassVar[Sequence[str] | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ONE_ANSWER:
            if getattr(self, name) is not None:
                raise UserError(
                    f"datamodule.{name} is about rows with one label, and here each word has a tag: leave it out "
                    "(datamodule.budget is the number of sentences that keep their tags)"
                )
        if self.pack:
            raise UserError("datamodule.pack=true joins texts, and here each word has a tag: set datamodule.pack=false")

    @abstractmethod
    def sentences(self) -> tuple[Tagged, list[str] | None]:
        """The words and tags, and the split of each sentence, or None: to be cut by fractions."""

    def order(self) -> Sequence[str] | None:
        """The tags in the order of the logits, where they are fixed."""
        return self.names

    def corpus(self) -> Corpus:
        found, split = self.sentences()
        where = self.described()
        given = self.order()
        seen = {tag for tags in found.tags if tags for tag in tags}
        names = list(given) if given is not None else sorted(seen, key=lambda tag: (tag != NO_ENTITY, tag))
        if unknown := seen - set(names):
            row, tag = next((row, tag) for row, tags in enumerate(found.tags) for tag in tags or () if tag in unknown)
            raise UserError(
                f"{found.where[row]} has the unknown tag '{tag[:40]}'; known are {', '.join(names)[:300]}: correct it, "
                "or add it to datamodule.label_names"
            )
        values = [WORD.join(word.replace(WORD, " ") for word in words) for words in found.words]
        return Corpus(where, values, list(found.tags), names, split, row_name=found.where.__getitem__, thing="sentence")

    def described(self) -> str:
        """The name of the data in messages."""
        return type(self).__name__.lower()

    def make_target(self, corpus: Corpus) -> Target:
        index = {name: code for code, name in enumerate(corpus.names or ())}
        return Tags.of(
            corpus.names or (), [None if tags is None else [index[tag] for tag in tags] for tags in corpus.labels]
        )

    def aligned(self, target: Target, encoded: Encoded) -> Target:
        """The tags at the first pieces of their words."""
        assert isinstance(target, Tags) and isinstance(encoded, WordRows)
        placed = []
        for row, tags in enumerate(target.tags):
            found = np.full(int(encoded.lengths[row]), -1, np.int64)
            starts = encoded.starts.row(row)
            if target.codes[row] >= 0:
                found[starts] = tags[: len(starts)]
            placed.append(found)
        return Tags(target.names, target.codes, tuple(placed))

    def make_processor(self, values: Sequence[Any]) -> Processor:
        plain = [value.replace(WORD, " ") for value in values]
        self.tokenizer = tokenizer.load(self.tokenizer_spec, plain, self.download)
        return TaggedText(self.tokenizer, self.max_length, pretrained=not self.tokenizer_spec.startswith("train:"))

    def check_rows(self, corpus: Corpus) -> None:
        if not corpus.values:
            raise UserError(f"{corpus.where} has no rows")

    def oddities(self, corpus: Corpus) -> list[str]:
        return []
