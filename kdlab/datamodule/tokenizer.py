"""Tokenizers: a pretrained one, or one that is made of the training texts."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from kdlab.datamodule.corpus import PAIR
from kdlab.datamodule.vocabulary import characters, symbols
from kdlab.error import UserError
from kdlab.fetch import cache, once, permitted
from kdlab.model.pretrained import resolve

TRAIN = "train:"  # before the kind and size of a tokenizer that is made of the training texts

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
MOST = 100_000  # texts that a tokenizer is trained on: more hardly change its words
ALPHABET = 6000  # characters that get a token of their own: Chinese needs thousands


def load(spec: str, texts: Sequence[str], download: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer a spec names.

    Args:
        spec: ``train:wordpiece:SIZE``, ``train:char`` or ``train:symbol`` (made of ``texts``, kept in the cache), or
            what :func:`kdlab.model.pretrained.resolve` takes.
        texts: the training texts; a pretrained tokenizer does not look at them.

    Raises:
        UserError: no such tokenizer, or it cannot be loaded.
    """
    if spec.startswith(TRAIN):
        return _trained(spec, texts)
    path = resolve(spec, download)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, local_files_only=not permitted(download), trust_remote_code=False
        )
    except BaseException as error:  # the tokenizers library raises bare Exception on a corrupt file, or panics
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise UserError(
            f"no tokenizer can be loaded from '{spec}': give a folder, package:NAME==VERSION/path, "
            "train:wordpiece:8000, train:char, or a hub id with download=true"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of what decides how a text becomes ids."""
    if tokenizer.is_fast:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        state["truncation"] = state["padding"] = None  # set by calls; no part of the tokenizer
    else:
        state = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def ends(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids of the tokens that end a text: the end of a sequence, or a separator where there is none."""
    found = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    return () if found is None else (int(found),)


def encode_targets(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> Iterator[list[int]]:
    """Ids of texts that a decoder writes, cut to ``max_length``, each with its end token; one list a text.

    A token that begins each text is kept where it is the tokenizer's own begin of a sequence, which such decoders write
    as well (BART); one that is for classes (``[CLS]`` of BERT) is left out.

    Raises:
        UserError: the tokenizer has no token that ends a text.
    """
    if not (last := ends(tokenizer)):
        raise UserError(
            f"the tokenizer {tokenizer.name_or_path} has no token that ends a text (eos or sep), so that a model could "
            "not learn to stop: choose another datamodule.target_tokenizer, such as train:wordpiece:8000"
        )
    first = tokenizer.cls_token_id if tokenizer.bos_token_id is None else None
    for start in range(0, len(texts), 4096):
        found = tokenizer(
            text_target=list(texts[start : start + 4096]), truncation=True, max_length=max_length + (first is not None),
            return_attention_mask=False,
        )["input_ids"]  # fmt: skip
        for ids in found:
            own = ids[1:] if first is not None and ids[:1] == [first] else ids
            yield own if own and own[-1] in last else [*own[: max_length - 1], last[0]]


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> Iterator[list[int]]:
    """Ids with special tokens, cut to ``max_length``, one list a text; of a pair, as the tokenizer joins two texts."""
    quick = _quick(tokenizer, texts[0], max_length) if texts and PAIR not in texts[0] else None
    for start in range(0, len(texts), 4096):
        chunk = list(texts[start : start + 4096])
        if quick is not None:
            yield from (one.ids for one in quick(chunk))
            continue
        pairs = [text.partition(PAIR) for text in chunk] if PAIR in chunk[0] else None
        given = (chunk,) if pairs is None else ([pair[0] for pair in pairs], [pair[2] for pair in pairs])
        yield from tokenizer(*given, truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]


def separator(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of the token after the first of two texts, where models of the tokenizer are given the number of each
    token's text (BERT); None where they are not (RoBERTa, DistilBERT, and what is trained here).

    Raises:
        UserError: it numbers the texts of a pair in another way.
    """
    if "token_type_ids" not in tokenizer.model_input_names:
        return None
    found = tokenizer("a", "b", return_token_type_ids=True)
    ids, types = list(found["input_ids"]), list(found["token_type_ids"])
    if not any(types):
        return None
    place = ids.index(tokenizer.sep_token_id) if tokenizer.sep_token_id in ids else -1
    if [int(number > place) for number in range(len(ids))] != types:
        raise UserError(
            f"the tokenizer {tokenizer.name_or_path} numbers the texts of a pair {types}, which is not 0 up to the "
            "first separator and then 1: choose another, or join the columns with a template, '{first} {second}'"
        )
    return int(tokenizer.sep_token_id)


def _quick(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int) -> Callable[[list[str]], list[Any]] | None:
    """The function that encodes a list of texts without their offsets; None where that is not the same."""
    wanted = tokenizer([text], truncation=True, max_length=max_length)["input_ids"][0]  # sets how the backend cuts
    backend = getattr(tokenizer, "backend_tokenizer", None)
    quick = getattr(backend, "encode_batch_fast", None)
    return quick if quick is not None and quick([text])[0].ids == wanted else None


def wordpiece(texts: Sequence[str], size: int) -> Tokenizer:
    """A lower-case WordPiece with BERT's rules (each Chinese character is a word), the same for the same texts.

    The trainer numbers the characters in the order of a hash map, which decides ties; giving it the characters
    as special tokens, sorted, makes it deterministic.
    """
    normalizer, words = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    chars: Counter[str] = Counter()
    later: set[str] = set()
    for text in texts:
        for word, _ in words.pre_tokenize_str(normalizer.normalize_str(text)):
            chars.update(word)
            later.update(word[1:])
    room = min(ALPHABET, (size - len(SPECIAL)) // 2)
    kept = {char for char, _ in sorted(chars.items(), key=lambda item: (-item[1], item[0]))[:room]}
    pieces = sorted(kept) + sorted("##" + char for char in kept & later)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, words
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        show_progress=False,
        special_tokens=[*SPECIAL.values(), *pieces],
        limit_alphabet=0,
    )
    tokenizer.train_from_iterator(texts, trainer)
    final = Tokenizer(models.WordPiece(vocab=tokenizer.get_vocab(with_added_tokens=False), unk_token="[UNK]"))
    final.normalizer, final.pre_tokenizer = normalizer, words
    final.add_special_tokens(list(SPECIAL.values()))
    ends = [(name, final.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    final.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return final


def _trained(spec: str, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    match spec.split(":"):
        case ["train", "wordpiece", size] if size.isdecimal() and int(size) >= 100:
            make = partial(wordpiece, size=int(size))
        case ["train", "char"]:
            make = partial(characters, special=SPECIAL)
        case ["train", "symbol"]:
            make = partial(symbols, special=SPECIAL)
        case _:
            raise UserError(
                f"'{spec}' is not a tokenizer to train: write train:wordpiece:SIZE, SIZE 100 or more, train:char (each "
                "character a token) or train:symbol (each part between spaces)"
            )
    known = hashlib.sha256(f"2 {ALPHABET} {spec}".encode())
    if len(texts) > MOST:  # those of least hash, in whatever order the texts come
        texts = sorted(texts, key=lambda text: hashlib.blake2b(text.encode(), digest_size=8).digest())[:MOST]
    for text in sorted(texts):
        known.update(hashlib.sha256(text.encode()).digest())
    folder = cache() / "tokenizer" / known.hexdigest()[:32]

    def build(new: Path) -> None:
        PreTrainedTokenizerFast(tokenizer_object=make(texts), **SPECIAL).save_pretrained(new)

    once(folder, build)
    return PreTrainedTokenizerFast.from_pretrained(folder)
