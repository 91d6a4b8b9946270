"""Words as tokens, of which the first piece of each word has the word's answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.datamodule.processor.base import Encoded, Processor
from kdlab.datamodule.processor.text import Text
from kdlab.datamodule.rows import Rows, stored
from kdlab.error import UserError

WORD = "\x1e"  # between the words of a row


@dataclass(frozen=True)
class WordRows(Encoded):
    """The tokens of all rows, and where each word begins in them.

    Attributes:
        rows: the tokens.
        starts: a row of positions for each row, one for each word that is not cut off.
    """

    rows: Rows
    starts: Rows

    @property
    def lengths(self) -> np.ndarray:  # type: ignore[override]
        return self.rows.lengths

    @cached_property
    def words(self) -> np.ndarray:
        return self.starts.lengths

    def collate(self, index: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        return self.rows.collate(index)

    def answers(self, index: np.ndarray, length: int) -> dict[str, Tensor]:
        """``first`` ``[B, L]`` bool: the first piece of each word."""
        first = np.zeros((len(index), length), bool)
        for place, row in enumerate(index.tolist()):
            first[place, self.starts.row(row)] = True
        return {"first": torch.from_numpy(first)}


@final
class TaggedText(Processor):
    """A tokenizer for rows of words, which are joined by :data:`WORD`: each word is cut into pieces by itself.

    Args:
        tokenizer: of transformers.
        max_length: tokens of a row; the words at its end that do not fit are left out.
        pretrained: whether the tokenizer was made from other texts, so that many words may be unknown to it.
    """

    inputs = ("input_ids", "attention_mask")

    def __init__(self, tokenizer: Any, max_length: int, pretrained: bool = True) -> None:
        self.text = Text(tokenizer, max_length, pretrained)
        self.tokenizer, self.max_length, self.padding = tokenizer, max_length, self.text.padding

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"tagged 1 {self.text.digest}".encode()).hexdigest()

    def encode(self, values: Sequence[str], fingerprint: str) -> WordRows:
        made = partial(pieces, self.tokenizer, values, self.max_length)
        rows = stored(fingerprint, len(values), lambda: (ids for ids, _ in made()), self.padding)
        starts = stored(f"{fingerprint}-words", len(values), lambda: (places for _, places in made()))
        return WordRows(rows, starts)

    def arguments(self) -> dict[str, Any]:
        return self.text.arguments()

    def check(self, model: nn.Module, lengths: np.ndarray) -> None:
        self.text.check(model, lengths)

    def saved(self, folder: Path) -> TaggedText | None:
        found = self.text.saved(folder)
        return None if found is None else TaggedText(found.tokenizer, self.max_length)

    def equals(self, other: Processor) -> bool:
        return isinstance(other, TaggedText) and self.text.equals(other.text)

    def example(self, length: int) -> dict[str, Tensor]:
        return self.text.example(length)

    def save_pretrained(self, folder: str | Path) -> None:
        self.text.save_pretrained(folder)

    def notices(self, encoded: Encoded) -> list[str]:
        assert isinstance(encoded, WordRows)
        return self.text.notices(encoded.rows)

    def problems(self, encoded: Encoded) -> list[str]:
        assert isinstance(encoded, WordRows)
        return self.text.problems(encoded.rows)

    def describe(self) -> dict[str, Any]:
        return self.text.describe()


def pieces(tokenizer: Any, values: Sequence[str], max_length: int) -> Iterator[tuple[list[int], list[int]]]:
    """The ids of each row with its special tokens, cut to ``max_length``, and where its words begin in them.

    Raises:
        UserError: ``max_length`` leaves no room for a token.
    """
    before, after, space = _around(tokenizer)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise UserError(f"datamodule.max_length={max_length} leaves no room for a word: set it to 128")
    known: dict[str, list[int]] = {}
    for begin in range(0, len(values), 4096):
        rows = [value.split(WORD) for value in values[begin : begin + 4096]]
        new = list(dict.fromkeys(word for row in rows for word in row if word not in known))
        if new:
            found = tokenizer([space + word for word in new], add_special_tokens=False)["input_ids"]
            known |= {word: ids or [tokenizer.unk_token_id or 0] for word, ids in zip(new, found, strict=True)}
        for row in rows:
            ids: list[int] = []
            starts = []
            for word in row:
                if len(ids) >= room:
                    break
                starts.append(len(before) + len(ids))
                ids += known[word]
            yield [*before, *ids[:room], *after], starts


def _around(tokenizer: Any) -> tuple[list[int], list[int], str]:
    """The special tokens before and after a text, and what is before a word that is none's first: a space or nothing.

    Byte-level tokenizers (RoBERTa, GPT-2) tell ``word`` from `` word``; the first word of a row is one with a space,
    as for transformers with ``add_prefix_space``.
    """
    bare = tokenizer("a b", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a b")["input_ids"]
    begin = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    spaced = tokenizer(" b", add_special_tokens=False)["input_ids"]
    plain = tokenizer("b", add_special_tokens=False)["input_ids"]
    space = " " if bare[-len(spaced) :] == spaced and spaced != plain else ""
    return list(whole[:begin]), list(whole[begin + len(bare) :]), space
