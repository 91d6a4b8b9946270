"""Texts as tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.datamodule import tokenizer as tokens
from kdlab.datamodule.answered import unanswered
from kdlab.datamodule.odd import GRAVE, unknown
from kdlab.datamodule.processor.base import Encoded, Processor
from kdlab.datamodule.processor.token_bytes import token_bytes
from kdlab.datamodule.processor.words import boundaries, same_words
from kdlab.datamodule.rows import Rows, repeated, sample, stored
from kdlab.error import UserError
from kdlab.model.save import load_tokenizer, tokenizer_fingerprint
from kdlab.value import LARGEST


@final
class Text(Processor):
    """A tokenizer: ids and mask ``[B, L]`` int64 of texts; of a pair of texts as the tokenizer joins two.

    Args:
        tokenizer: of transformers.
        max_length: tokens; longer texts are cut.
        pretrained: whether the tokenizer was made from other texts, so that many words may be unknown to it.
        pairs: whether values are pairs of texts; then inputs have ``token_type_ids`` too, where models of the tokenizer
            are given them.
    """

    inputs = ("input_ids", "attention_mask")

    def __init__(self, tokenizer: Any, max_length: int, pretrained: bool = True, pairs: bool = False) -> None:
        self.pairs, self.separator = pairs, tokens.separator(tokenizer) if pairs else None
        self.tokenizer, self.max_length, self.pretrained = tokenizer, max_length, pretrained
        self.ends, self.padding = tokens.ends(tokenizer), tokenizer.pad_token_id or 0

    @property
    def digest(self) -> str:
        version = "1" if self.separator is None else f"2 {self.separator}"
        return hashlib.sha256(f"{version} {self.max_length} {tokens.digest(self.tokenizer)}".encode()).hexdigest()

    def encode(self, values: Sequence[str], fingerprint: str) -> Rows:
        some = sample(fingerprint, len(values))
        if some is None:
            make = partial(tokens.encode, self.tokenizer, values, self.max_length)
            rows = stored(fingerprint, len(values), make, self.padding)
        else:
            few = list(tokens.encode(self.tokenizer, [values[row] for row in some], self.max_length))
            rows = repeated(few, len(values), self.padding)
        return rows if self.separator is None else replace(rows, separator=self.separator)

    def encode_new(self, values: Sequence[str]) -> Rows:
        return Rows.of(tokens.encode(self.tokenizer, values, self.max_length), self.padding)

    def token_bytes(self) -> np.ndarray:
        return token_bytes(self.tokenizer)

    def arguments(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer}

    def check(self, model: nn.Module, lengths: np.ndarray) -> None:
        """Refuse texts that are longer than a model's table of positions, or than its attribute ``room``."""
        room = getattr(model, "room", None)
        if room is not None and int(lengths.max(initial=0)) > room:
            raise UserError(
                f"datamodule.max_length={self.max_length} leaves a text of {int(lengths.max())} tokens, but "
                f"{type(model).__name__} has {max(0, room)} positions for it beside its prompt: set "
                "datamodule.max_length to that or less, or fewer examples"
            )
        tables = [part for name, part in model.named_modules() if name.endswith(("position_embeddings", "wpe"))]
        rows = min((part.num_embeddings for part in tables if isinstance(part, nn.Embedding)), default=0)
        longest = int(lengths.max(initial=0)) if rows else 0
        if longest > rows:
            raise UserError(
                f"datamodule.max_length={self.max_length} leaves a text of {longest} tokens, but "
                f"{type(model).__name__} has {rows} positions: set datamodule.max_length={rows} or less"
            )

    def saved(self, folder: Path) -> Text | None:
        found = load_tokenizer(folder)
        return None if found is None else Text(found, self.max_length, pairs=self.pairs)

    def equals(self, other: Processor) -> bool:
        if not isinstance(other, Text):
            return False
        return tokenizer_fingerprint(self.tokenizer) == tokenizer_fingerprint(other.tokenizer)

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return list(self.tokenizer.batch_decode(list(rows), skip_special_tokens=True))

    def prompts(self, values: Sequence[str], most: int) -> tuple[Encoded, np.ndarray]:
        first = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.cls_token_id
        found = [list(one) for one in tokens.encode(self.tokenizer, values, LARGEST)]
        added = len(self.ends) > 0 and self.tokenizer("")["input_ids"][-1:] == list(self.ends[:1])
        rows = unanswered([one[:-1] if added else one for one in found], most, first, self.padding)
        return rows, rows.lost

    def ends_of_tokens(self, values: Sequence[str], fingerprint: str) -> Callable[[int], np.ndarray]:
        some = sample(fingerprint, len(values))
        if some is not None:
            few = [values[row] for row in some]
            return repeated(list(boundaries(self.tokenizer, few, self.max_length)), len(values)).row
        make = partial(boundaries, self.tokenizer, values, self.max_length)
        return stored(f"{fingerprint}-ends", len(values), make).row

    def same_words(self, other: Processor) -> Tensor:
        return same_words(self.tokenizer, other.tokenizer) if isinstance(other, Text) else super().same_words(other)

    def example(self, length: int) -> dict[str, Tensor]:
        ids = (torch.arange(min(length, self.max_length)) % len(self.tokenizer))[None]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def usage(self) -> str:
        return (
            "from transformers import AutoTokenizer\n\ntokenizer = AutoTokenizer.from_pretrained(folder)\n"
            'texts = ["a fine film", "dull"]  # of a pair of texts: tokenizer(first, second, …)\n'
            f"cut = dict(padding=True, truncation=True, max_length={self.max_length})\n"
            'inputs = tokenizer(texts, return_tensors="np", **cut)\n'
            f"inputs = {{name: inputs[name] for name in {self.inputs!r}}}"
        )

    def save_pretrained(self, folder: str | Path) -> None:
        self.tokenizer.save_pretrained(folder)

    def notices(self, encoded: Encoded) -> list[str]:
        assert isinstance(encoded, Rows)
        found = [] if not self.pretrained else unknown(encoded, self.tokenizer)
        if encoded.sampled is not None:
            few = f"{encoded.sampled:,} of the {len(encoded):,} rows were tokenised as a sample that stands for all"
            found = [few, *found]
        return found

    def problems(self, encoded: Encoded) -> list[str]:
        assert isinstance(encoded, Rows)
        return [] if not self.pretrained else unknown(encoded, self.tokenizer, GRAVE)

    def describe(self) -> dict[str, Any]:
        return {"vocabulary": len(self.tokenizer)}
