"""Pairs of texts as tokens: the source that an encoder reads, and the target that a decoder writes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.datamodule import tokenizer as tokens
from kdlab.datamodule.corpus import PAIR, counted
from kdlab.datamodule.odd import GRAVE, unknown
from kdlab.datamodule.processor.base import Encoded, Processor
from kdlab.datamodule.rows import Rows, repeated, sample, stored
from kdlab.error import UserError
from kdlab.model.begin import begin_of
from kdlab.model.save import load_tokenizer, tokenizer_fingerprint
from kdlab.value import LARGEST

TARGET = "target_tokenizer"  # the folder beside a model, and the argument of its factory


@final
@dataclass(frozen=True)
class PairRows(Encoded):
    """Token ids of all pairs; the token axis of a row is that of its target.

    Attributes:
        sources, targets: the ids of both sides; a target ends with its end token.
        start: the id before a target, in whose place a task puts that of its model.

    Example: the target 7, 8, 2 is moved by one position:
        >>> one = Rows(np.array([5, 6], np.int32), np.array([0, 2]))
        >>> rows = PairRows(one, Rows(np.array([7, 8, 2], np.int32), np.array([0, 3])), start=1)
        >>> rows.collate(np.array([0]))[0]["decoder_input_ids"].tolist()
        [[1, 7, 8]]
        >>> rows.answers(np.array([0]), 3)["label"].tolist()
        [[7, 8, 2]]
    """

    sources: Rows
    targets: Rows
    start: int

    @property
    def lengths(self) -> np.ndarray:  # type: ignore[override]
        """``[N]`` int64: tokens of each target, its end included."""
        return self.targets.lengths

    @property
    def costs(self) -> np.ndarray:
        """``[N]`` int64: twice the longer side, so that a batch of both sides with their padding never has more."""
        return 2 * np.maximum(self.sources.lengths, self.targets.lengths)

    @property
    def predictions(self) -> np.ndarray:
        """``[N]`` int64: every token of a target is predicted."""
        return self.targets.lengths

    def collate(self, index: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        inputs, _ = self.sources.collate(index)
        written, real = self.targets.collate(index)
        ids = written["input_ids"]
        moved = torch.cat([ids.new_full((len(ids), 1), self.start), ids[:, :-1]], 1)
        return {**inputs, "decoder_input_ids": moved}, real

    def answers(self, index: np.ndarray, length: int) -> dict[str, Tensor]:
        written, real = self.targets.collate(index)
        return {"label": written["input_ids"].where(real, -1)}


@final
class Pairs(Processor):
    """Two tokenizers, which may be one: ids and mask ``[B, S]`` of sources, and the decoder's ids ``[B, L]``.

    Args:
        tokenizer: of the sources.
        target_tokenizer: of the targets.
        max_length, max_target_length: tokens of each side; longer texts are cut, before their end token.
        pretrained: whether each tokenizer was made from other texts, so that many words may be unknown to it.
    """

    inputs = ("input_ids", "attention_mask", "decoder_input_ids")

    def __init__(
        self,
        tokenizer: Any,
        target_tokenizer: Any,
        max_length: int,
        max_target_length: int,
        pretrained: tuple[bool, bool] = (True, True),
    ) -> None:
        self.tokenizer, self.target_tokenizer = tokenizer, target_tokenizer
        self.max_length, self.max_target_length, self.pretrained = max_length, max_target_length, pretrained
        self.ends, self.padding = tokens.ends(target_tokenizer), target_tokenizer.pad_token_id or 0
        self.longest = 0  # source of the data that was encoded

    @property
    def shared(self) -> bool:
        """Whether both sides have one tokenizer."""
        return self.tokenizer is self.target_tokenizer

    @property
    def digest(self) -> str:
        parts = [self.max_length, self.max_target_length, *map(tokens.digest, (self.tokenizer, self.target_tokenizer))]
        return hashlib.sha256(f"pairs 1 {parts}".encode()).hexdigest()

    def encode(self, values: Sequence[str], fingerprint: str) -> PairRows:
        sources, targets = sides(values)
        read = partial(tokens.encode, self.tokenizer, max_length=self.max_length)
        write = partial(tokens.encode_targets, self.target_tokenizer, max_length=self.max_target_length)
        found = PairRows(
            _rows(read, sources, f"{fingerprint}-source", self.tokenizer.pad_token_id or 0),
            _rows(write, targets, f"{fingerprint}-target", self.padding),
            begin_of(self.target_tokenizer),
        )
        self.longest = int(found.sources.lengths.max(initial=0))
        return found

    def arguments(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer} | ({} if self.shared else {TARGET: self.target_tokenizer})

    def check(self, model: nn.Module, lengths: np.ndarray) -> None:
        """Refuse texts that are longer than a model's table of positions."""
        config = getattr(model, "config", None)
        tables = [part for name, part in model.named_modules() if name.endswith(("embed_positions", "wpe"))]
        rows = getattr(config, "max_position_embeddings", None) if tables else None
        if rows is None:
            return
        for longest, side, key in (
            (self.longest, "source", "max_length"),
            (int(lengths.max(initial=0)), "target", "max_target_length"),
        ):
            if longest > rows:
                raise UserError(
                    f"datamodule.{key} leaves a {side} of {longest} tokens, but {type(model).__name__} has {rows} "
                    f"positions: set datamodule.{key}={rows} or less"
                )

    def saved(self, folder: Path) -> Pairs | None:
        source = load_tokenizer(folder)
        if source is None:
            return None
        target = load_tokenizer(folder / TARGET) or source
        return Pairs(source, target, self.max_length, self.max_target_length)

    def equals(self, other: Processor) -> bool:
        if not isinstance(other, Pairs):
            return False
        pairs = ((self.tokenizer, other.tokenizer), (self.target_tokenizer, other.target_tokenizer))
        return all(tokenizer_fingerprint(one) == tokenizer_fingerprint(two) for one, two in pairs)

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return list(self.target_tokenizer.batch_decode(list(rows), skip_special_tokens=True))

    def prompts(self, values: Sequence[str], most: int) -> tuple[Encoded, np.ndarray]:
        """As a source is read in training: of one that is longer than ``max_length`` the end is left out."""
        sources, _ = sides(values)
        whole = [len(one) for one in tokens.encode(self.tokenizer, sources, LARGEST)]
        found = list(tokens.encode(self.tokenizer, sources, self.max_length))
        read = repeated(found, len(found), self.tokenizer.pad_token_id or 0)
        written = repeated([list(self.ends[:1]) or [self.padding]], len(found), self.padding)
        return PairRows(read, written, begin_of(self.target_tokenizer)), np.array(whole, np.int64) - read.lengths

    def example(self, length: int) -> dict[str, Tensor]:
        ids = (torch.arange(min(length, self.max_length)) % len(self.tokenizer))[None]
        written = (torch.arange(min(length, self.max_target_length)) % len(self.target_tokenizer))[None]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": written}

    def save_pretrained(self, folder: str | Path) -> None:
        self.tokenizer.save_pretrained(folder)
        if not self.shared:
            if (fast := getattr(self.target_tokenizer, "backend_tokenizer", None)) is not None:
                fast.no_truncation()
                fast.no_padding()
            self.target_tokenizer.save_pretrained(Path(folder) / TARGET)

    def notices(self, encoded: Encoded) -> list[str]:
        assert isinstance(encoded, PairRows)
        found = self._unknown(encoded)
        if cut := int((encoded.targets.lengths >= self.max_target_length).sum()):
            found.append(
                f"{counted(cut, 'target reaches', 'targets reach')} {self.max_target_length} tokens; longer ones are "
                "cut there, and a model learns to stop early: raise datamodule.max_target_length"
            )
        return found

    def problems(self, encoded: Encoded) -> list[str]:
        return self._unknown(encoded, GRAVE)

    def _unknown(self, encoded: Encoded, *least: float) -> list[str]:
        assert isinstance(encoded, PairRows)
        sides = ((encoded.sources, self.tokenizer), (encoded.targets, self.target_tokenizer))
        known = zip(sides, self.pretrained, strict=True)
        return list(dict.fromkeys(one for (rows, own), made in known if made for one in unknown(rows, own, *least)))

    def describe(self) -> dict[str, Any]:
        return {"vocabulary": len(self.tokenizer), "target_vocabulary": len(self.target_tokenizer)}


def sides(values: Sequence[str]) -> tuple[list[str], list[str]]:
    """The sources and the targets of pairs.

    Example:
        >>> sides(["cat" + PAIR + "k æ t"])
        (['cat'], ['k æ t'])
    """
    parts = [value.partition(PAIR) for value in values]
    return [part[0] for part in parts], [part[2] for part in parts]


def _rows(
    encode: Callable[[Sequence[str]], Iterable[Sequence[int]]], texts: Sequence[str], fingerprint: str, pad: int
) -> Rows:
    """The tokens of one side, kept in the cache; of a sample of the rows where a sample is asked for."""
    some = sample(fingerprint, len(texts))
    if some is None:
        return stored(fingerprint, len(texts), lambda: encode(texts), pad)
    return repeated(list(encode([texts[row] for row in some])), len(texts), pad)
