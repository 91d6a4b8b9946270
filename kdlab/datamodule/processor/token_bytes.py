"""How many bytes of text each token of a vocabulary stands for."""

from __future__ import annotations

import json
from typing import Any

import numpy as np


def token_bytes(tokenizer: Any) -> np.ndarray:
    """``[V]`` int64: the bytes in UTF-8 of each token in a decoded text; 0 for special tokens, which are no text.

    Of a byte-level tokenizer (GPT-2, Llama 3, Qwen, SmolLM2) and of SentencePiece with byte fallback, the sum over the
    tokens of a text is the text's size, whatever its characters. SentencePiece puts a space before a text, which
    counts at its first token. A WordPiece loses how words were apart: each word counts with one space before it.

    Args:
        tokenizer: of transformers.

    Example:
        >>> from tokenizers import Tokenizer, models
        >>> from transformers import PreTrainedTokenizerFast
        >>> wordpiece = Tokenizer(models.WordPiece({"[UNK]": 0, "play": 1, "##ing": 2}, unk_token="[UNK]"))
        >>> token_bytes(PreTrainedTokenizerFast(tokenizer_object=wordpiece, unk_token="[UNK]")).tolist()
        [0, 5, 3]
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    size = _counter(tokenizer)
    found = np.zeros(max(vocabulary.values(), default=-1) + 1, np.int64)
    for token, index in vocabulary.items():
        found[index] = size(token)
    for index, added in tokenizer.added_tokens_decoder.items():  # kept as they are in a text
        found[index] = 0 if added.special else len(added.content.encode())
    found[list(tokenizer.all_special_ids)] = 0
    return found


def _counter(tokenizer: Any) -> Any:
    """The function that counts the bytes of a token, by the kind of the vocabulary."""
    if not tokenizer.is_fast:
        return _piece
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    parts = json.dumps([state.get("pre_tokenizer"), state.get("decoder")])
    if '"ByteLevel"' in parts:
        return len  # each character of the token stands for a byte
    prefix = state["model"].get("continuing_subword_prefix") or ""
    if state["model"]["type"] in ("WordPiece", "WordLevel"):
        return lambda token: _word(token, prefix)
    return _piece


def _word(token: str, prefix: str) -> int:
    """Bytes of a token of a WordPiece: a word with the space before it, or a part of one."""
    return len(token.removeprefix(prefix).encode()) if prefix and token.startswith(prefix) else 1 + len(token.encode())


def _piece(token: str) -> int:
    """Bytes of a token of SentencePiece: ``▁`` is a space, ``<0xE2>`` a byte.

    Example:
        >>> _piece("▁the"), _piece("<0xE2>"), _piece("é")
        (4, 1, 2)
    """
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return 1
    return len(token.replace("▁", " ").encode())
