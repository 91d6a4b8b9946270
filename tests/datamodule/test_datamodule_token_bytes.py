"""The bytes of tokens add up to the bytes of the text, whatever the tokenizer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kdlab.datamodule.processor.token_bytes import token_bytes
from kdlab.datamodule.tokenizer import wordpiece

TEXTS = ["the story of a film about the sea", "A film, a story: naïve café — 电影 😀"] * 20
ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def byte_level() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|im_end|>")


def byte_fallback() -> PreTrainedTokenizerFast:
    pieces = ["<unk>", "▁the", "▁", *"thes", *[f"<0x{one:02X}>" for one in range(256)]]
    vocabulary = [(piece, -float(len(pieces) - len(piece))) for piece in pieces]
    core = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def words() -> PreTrainedTokenizerFast:
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=wordpiece(TEXTS, 200), **special)


@pytest.fixture(scope="module")
def tokenizers():
    return {"byte_level": byte_level(), "byte_fallback": byte_fallback(), "wordpiece": words()}


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
@given(text=ANY)
def test_they_are_the_bytes_of_any_text(tokenizers, kind, text):
    tokenizer = tokenizers[kind]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert token_bytes(tokenizer)[ids].sum() == len(text.replace("▁", " ").encode())


def test_of_a_wordpiece_they_are_those_of_the_decoded_words_and_a_space_before_each(tokenizers):
    tokenizer = tokenizers["wordpiece"]
    ids = tokenizer("the story of a film")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[0] == "[CLS]"
    assert token_bytes(tokenizer)[ids].sum() == len(" the story of a film")


def test_special_tokens_are_no_text(tokenizers):
    for tokenizer in tokenizers.values():
        assert token_bytes(tokenizer)[tokenizer.all_special_ids].sum() == 0
        assert len(token_bytes(tokenizer)) == len(tokenizer)
