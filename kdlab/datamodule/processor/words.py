"""Where the tokens of a text end in it, and which tokens of two tokenizers are the same word."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from kdlab.alignment import INSIDE, NO_TEXT
from kdlab.datamodule.corpus import PAIR
from kdlab.error import UserError

BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # a token that is one byte of a character without a token of its own


def boundaries(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> Iterator[list[int]]:
    """Where each token of each text ends in it, in characters, for :func:`kdlab.alignment.groups`.

    Args:
        max_length: tokens; longer texts are cut, as where they are encoded.

    Raises:
        UserError: the tokenizer does not know it, or the texts are pairs.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{type(tokenizer).__name__} does not know where its tokens are in a text, so they cannot be aligned with "
            "those of another tokenizer: give a folder with a tokenizer.json"
        )
    if texts and PAIR in texts[0]:
        raise UserError(
            "the tokens of two tokenizers are aligned within one text, and the rows are pairs of texts: use "
            "one text column, or a teacher with the student's tokenizer"
        )
    for start in range(0, len(texts), 1024):
        found = tokenizer(
            list(texts[start : start + 1024]),
            truncation=True, max_length=max_length, return_attention_mask=False, return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )  # fmt: skip
        for spans, special in zip(found["offset_mapping"], found["special_tokens_mask"], strict=True):
            yield token_ends(spans, special)


def token_ends(spans: Sequence[tuple[int, int]], special: Sequence[int]) -> list[int]:
    """Where tokens end, from their spans in the text as the tokenizers library gives them.

    Args:
        spans: begin and end; tokens that are parts of one character have its span.
        special: 1 for tokens that are no part of the text.

    Example: a token that begins the row, and a character in two tokens:
        >>> token_ends([(0, 0), (0, 1), (0, 1), (1, 3)], [1, 0, 0, 0])
        [-2, -1, 1, 3]
    """
    ends, after = [NO_TEXT] * len(spans), None
    for place in reversed(range(len(spans))):
        if special[place]:
            continue
        begin, end = spans[place]
        ends[place] = INSIDE if after is not None and after < end else end
        after = begin
    return ends


def same_words(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> Tensor:
    """``[2, K]`` int64, the ids of student and teacher of the tokens that are the same piece of text.

    A word with a space before it and the same word without one are two; special tokens are none.
    """
    one, two = words(student), words(teacher)
    shared = [word for word in one if word in two]
    return torch.tensor([[side[word] for word in shared] for side in (one, two)], dtype=torch.int64).view(2, -1)


def words(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The id of each token by the piece of text that it stands for, with a space where a word begins.

    Pieces that several tokens stand for are left out.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    form = _form(state)
    special = set(tokenizer.all_special_ids)
    vocabulary = {token: number for token, number in tokenizer.get_vocab().items() if number not in special}
    pieces = {token: surface(token, form) for token in vocabulary}
    counts = Counter(pieces.values())
    return {pieces[token]: number for token, number in vocabulary.items() if counts[pieces[token]] == 1}


def _form(state: dict) -> str:
    """How a tokenizer writes its tokens: ``wordpiece``, ``bytes`` or ``metaspace``."""
    if state["model"].get("type") == "WordPiece":
        return "wordpiece"
    shown = json.dumps([state.get("pre_tokenizer"), state.get("decoder")])
    return "bytes" if '"ByteLevel"' in shown else "metaspace"


def surface(token: str, form: str) -> str:
    """The piece of text that a token stands for.

    Args:
        form: ``wordpiece`` (``##`` goes on with a word), ``bytes`` (GPT-2's letters for bytes) or ``metaspace``
            (``▁`` for a space, ``<0x0A>`` for a byte).

    Example:
        >>> surface("hello", "wordpiece"), surface("##ing", "wordpiece"), surface("Ġhello", "bytes")
        (' hello', 'ing', ' hello')
        >>> surface("▁hello", "metaspace"), surface("Ã©", "bytes")
        (' hello', 'é')
    """
    if form == "wordpiece":
        return token.removeprefix("##") if token.startswith("##") else f" {token}"
    if form == "metaspace":
        byte = BYTE.fullmatch(token)
        raw = bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()
    elif all(letter in LETTERS for letter in token):
        raw = bytes(LETTERS[letter] for letter in token)
    else:
        return token  # added by hand, as it is
    return raw.decode("utf-8", "surrogateescape")


def _letters() -> dict[str, int]:
    """GPT-2's letter of each byte: the byte itself where it is printable, else the next free one from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


LETTERS = _letters()
