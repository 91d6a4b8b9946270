"""Classification by the words of a prompt: the likelihood by hand, whatever the batch, and what its words may be."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from kdlab.error import UserError
from kdlab.model.examples import Examples, drawn
from kdlab.model.family.find import family
from kdlab.model.layers_of_teacher import layers_of_teacher
from kdlab.model.prompted import prompted
from kdlab.model.save import load, save, weights_sha256

VOCABULARY = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", *":;.abcdefgh", "user", "bot", "good", "bad", "very", "label"]
LABELS = ["negative", "positive"]
WORDS = {"negative": "bad", "positive": "good"}
TEMPLATE = "a {text} label : {label} ."
SIZES = {"vocab_size": len(VOCABULARY), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
CONFIG = {
    "gpt2": lambda: GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **SIZES),
    "llama": lambda: LlamaConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
        **SIZES,
    ),
}  # fmt: skip
EXAMPLES = Examples(["a b", "c d e", "f", "g h", "b b"], [0, 1, 1, 0, 0])
CHAT = "{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' ; ' }}{% endfor %}"
CHAT = (
    CHAT.replace("m['role']", "m['role'].replace('assistant', 'bot')")
    + "{% if add_generation_prompt %}bot : {% endif %}"
)


@pytest.fixture(scope="module", params=["bare", "special"])
def words(request):
    """A tokenizer of whole words, with or without special tokens around a text."""
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if request.param == "special":
        ends = [("[BOS]", 2), ("[EOS]", 3)]
        core.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", bos_token="[BOS]", eos_token="[EOS]"
    )


def language(name, labels=(), tokenizer=None, task="causal_lm"):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG[name]())
    for parameter in model.parameters():
        parameter.data *= 3
    return model


def made(name, tokenizer, **settings):
    given = {"template": TEMPLATE, "words": WORDS, "examples": EXAMPLES} | settings
    return prompted(partial(language, name), tokenizer, LABELS, **given).eval()


def batch(tokenizer, texts, side="right"):
    found = tokenizer(texts, padding=True, return_tensors="pt", padding_side=side)
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def by_hand(model, prompt, word, tokenizer):
    """The log likelihood of a word, one forward pass for each of its tokens."""
    ids, total = tokenizer.convert_tokens_to_ids(prompt.split()), 0.0
    for token in tokenizer.convert_tokens_to_ids(word.split()):
        total += model.inner(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token].item()
        ids.append(token)
    return total


def prompt_of(model, tokenizer, text):
    """The prompt of a text, in words."""
    begin = "[BOS] " if sum(model.config.ends) else ""
    return f"{begin}a {text} label :"


@pytest.mark.parametrize("name", CONFIG)
@pytest.mark.parametrize(
    "pair",
    [("bad", "good"), ("bad", "very good"), ("good", "good very bad"), ("very bad", "very good"), ("c d e", "c d f")],
)
def test_the_scores_are_the_likelihoods_by_hand(name, pair, words):
    model = made(name, words, words=dict(zip(LABELS, pair, strict=True)))
    texts = ["b c", "d e f g", "h"]
    logits = model(**batch(words, texts)).logits
    expected = [[by_hand(model, prompt_of(model, words, text), word, words) for word in pair] for text in texts]
    torch.testing.assert_close(logits, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    mean = made(name, words, words=dict(zip(LABELS, pair, strict=True)), mean=True)(**batch(words, texts)).logits
    torch.testing.assert_close(mean, logits / torch.tensor([len(word.split()) for word in pair]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONFIG)
def test_examples_stand_before_the_text(name, words):
    model = made(name, words, shots=2, separator=" ; ")
    shown = [f"a {text} label : {('bad', 'good')[code]} . ;" for text, code in drawn(EXAMPLES, LABELS, 2, 0)]
    prompt = " ".join([*shown, prompt_of(model, words, "b c").removeprefix("[BOS] ")])
    prompt = f"[BOS] {prompt}" if sum(model.config.ends) else prompt
    expected = [by_hand(model, prompt, word, words) for word in ("bad", "good")]
    torch.testing.assert_close(model(**batch(words, ["b c"])).logits[0], torch.tensor(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONFIG)
@pytest.mark.parametrize("settings", [{}, {"shots": 2}, {"calibration": ["", "h h"], "shots": 1}], ids=str)
def test_neither_the_batch_nor_the_side_of_its_padding_nor_the_shared_prefix_counts(name, settings, words):
    model = made(name, words, words={"negative": "bad", "positive": "very good"}, **settings)
    texts = ["b", "c d e f g h", "d d d", "a b"]
    whole = model(**batch(words, texts)).logits
    alone = torch.cat([model(**batch(words, [text])).logits for text in texts])
    left = model(**batch(words, texts, "left")).logits
    for found in (alone, left):
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)
    with torch.no_grad():  # the prefix is read once for all rows
        shared = model(**batch(words, texts)).logits
    torch.testing.assert_close(shared, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shots", [0, 1])
def test_a_text_without_content_is_any_label_with_the_same_probability(shots, words):
    model = made("llama", words, calibration=["h h"], shots=shots)
    logits = model(**batch(words, ["h h", "b c"])).logits.softmax(-1)
    torch.testing.assert_close(logits[0], torch.full((2,), 0.5), rtol=0, atol=1e-5)
    assert abs(logits[1, 0].item() - 0.5) > 1e-3
    several = made("llama", words, calibration=["h h", ""], shots=shots)
    plain = made("llama", words, shots=shots)
    blank = plain(**batch(words, ["h h", ""])).logits.softmax(-1).mean(0).log()
    text = batch(words, ["b c"])
    expected = (plain(**text).logits - blank).log_softmax(-1)
    torch.testing.assert_close(several(**text).logits.log_softmax(-1), expected, rtol=1e-4, atol=1e-4)


def test_a_word_that_begins_another_is_at_least_as_likely(words):
    model = made("gpt2", words, words={"negative": "good", "positive": "good very"})
    logits = model(**batch(words, ["a", "b c d", "e"])).logits
    assert (logits[:, 0] >= logits[:, 1]).all()


def test_the_prompt_can_be_a_dialogue(words):
    if len(words("a")["input_ids"]) > 1:
        pytest.skip("a template writes the begin of a text itself")
    words.chat_template = CHAT
    try:
        settings = {"chat": True, "system": "c d", "shots": 1, "separator": "not read", "template": "{text} h {label}"}
        model = made("llama", words, **settings)
        shown = [f"user : {text} h ; bot : {('bad', 'good')[code]} ;" for text, code in drawn(EXAMPLES, LABELS, 1, 0)]
        prompt = " ".join(["[UNK] : c d ;", *shown, "user : b c h ; bot :"])
        expected = [by_hand(model, prompt, word, words) for word in ("bad", "good")]
        found = model(**batch(words, ["b c"])).logits[0]
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    finally:
        words.chat_template = None


def test_it_is_saved_and_loads_again(words, tmp_path):
    for name in CONFIG:
        model = made(name, words, shots=1, calibration=["h"], words={"negative": "bad", "positive": "very good"})
        loaded, _ = load(save(model, words, tmp_path / name))
        assert weights_sha256(loaded) == weights_sha256(model)
        text = batch(words, ["b c", "d"])
        assert torch.equal(loaded(**text).logits, model(**text).logits)
        assert loaded.config.id2label == dict(enumerate(LABELS)) and not loaded.training


def test_it_learns_and_its_layers_make_a_student(words):
    model = made("llama", words, shots=1, calibration=["h"]).train()
    assert family(model).depth(model) == 2 and family(model).head(model) is None
    model(**batch(words, ["b c", "d"])).logits[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    student = layers_of_teacher([1], model, LABELS, words).eval()
    assert student.config.inner["num_hidden_layers"] == 1
    assert student(**batch(words, ["b c"])).logits.shape == (1, 2)
    with pytest.raises(UserError, match="has words for the labels negative, positive alone"):
        layers_of_teacher([1], model, ["a", "b"], words)


def test_examples_are_drawn_by_text_and_seed():
    texts = [f"text {number}" for number in range(40)]
    examples = Examples(texts, [number % 2 for number in range(40)])
    two, four = (drawn(examples, LABELS, shots, 0) for shots in (2, 4))
    assert set(two) < set(four) and len(four) == 8
    assert [code for _, code in four].count(1) == 4
    assert drawn(Examples(texts[::-1], [number % 2 for number in range(40)][::-1]), LABELS, 4, 0) == four
    assert drawn(examples, LABELS, 4, 1) != four
    with pytest.raises(UserError, match=r"shots=3 .* but 'positive' has 2 that are not measured: set shots=2 or less"):
        drawn(EXAMPLES, LABELS, 3, 0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"template": "no place {label}"}, r"must have \{text\} once and after it \{label\} once"),
        ({"template": "{label} {text}"}, "after it"),
        ({"words": {"negative": "bad"}}, "words has one for negative, but the labels are negative, positive"),
        ({"words": {"negative": "bad", "positive": " "}}, "words has one for negative, but"),
        ({"words": {"negative": "bad", "positive": "bad"}}, "have the same tokens"),
        ({"words": {"negative": "zz", "positive": "yy"}}, "have the same tokens"),
        ({"shots": 4}, "shots=4 takes as many"),
        ({"chat": True}, "the tokenizer has none: set chat=false"),
        ({"system": "be brief"}, "set chat=true"),
        (
            {"template": TEMPLATE.replace(" {text}", " {text}" + " c" * 70)},
            "the prompt with shots=0 has .* tokens, but",
        ),
        ({"template": "a {text} {label} x"}, "write what the word follows"),
    ],
)
def test_what_is_wrong_is_one_sentence(settings, expected, words):
    with pytest.raises(UserError, match=expected):
        made("gpt2", words, **settings)


def test_only_a_causal_language_model_has_a_likelihood(words):
    with pytest.raises(UserError, match="the model inside does not give: choose a causal language model"):
        prompted(lambda labels, tokenizer: torch.nn.Linear(2, 2), words, LABELS, words=WORDS)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    both = BertLMHeadModel(BertConfig(vocab_size=len(VOCABULARY), **small))
    with pytest.raises(UserError, match="BertLMHeadModel looks at later tokens"):
        prompted(lambda labels, tokenizer, task: both, words, LABELS, words=WORDS)
