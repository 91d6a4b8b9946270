"""peft=prompt and peft=prefix: virtual tokens and keys by the formula, and real tokens alone where they are read."""

from __future__ import annotations

import copy

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf
from torch.nn.functional import scaled_dot_product_attention

from kdlab.config import conf
from kdlab.error import UserError
from kdlab.model.tap import available, read
from tests.batches import text

TOKENS = 3
PROMPT = ["bert", "roberta", "distilbert", "gpt2", "electra", "llama"]
PREFIX = [family for family in PROMPT if family != "distilbert"]
CASES = [("prompt", family) for family in PROMPT] + [("prefix", family) for family in PREFIX]


def loud(make, family, attention=None):
    """A model of the family whose logits are of the size of 1: random weights of the usual scale whisper."""
    model = make(family)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            parameter.data *= 12
    if attention:
        model.set_attn_implementation(attention)
    return model


def tuned(make, name, family, attention=None, **settings):
    node = OmegaConf.to_container(OmegaConf.load(conf() / "peft" / f"{name}.yaml"))
    kind = get_object(node.pop("_target_"))
    model = loud(make, family, attention)
    torch.manual_seed(5)
    return kind(**node | {"tokens": TOKENS} | settings).attach(model, None)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("name", "family"), CASES)
def test_padding_and_neighbours_change_nothing(make, batch, name, family, attention):
    model = tuned(make, name, family, attention)
    together = read(model, text(batch))[0]
    for row, real in enumerate(batch["attention_mask"].bool()):
        alone, _ = read(model, text({key: value[row : row + 1, real] for key, value in batch.items()}))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_eager_and_fused_attention_agree(make, batch, name, family):
    one, two = (read(tuned(make, name, family, attention), text(batch))[0] for attention in ("eager", "sdpa"))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(one[0], one[1], atol=1e-2), "says the same of every text"


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_copy_has_virtual_tokens_of_its_own(make, batch, name, family):
    model = tuned(make, name, family)
    copied, said = copy.deepcopy(model), read(model, text(batch))[0]
    for key, parameter in model.named_parameters():
        if f".{name}." in key:
            parameter.data.zero_()
    assert not torch.allclose(read(model, text(batch))[0], said, atol=1e-3)
    torch.testing.assert_close(read(copied, text(batch))[0], said)


def test_a_prompt_is_more_words_whose_places_no_one_reads(make, batch):
    """Lester et al., section 2: ``[P; X]`` goes through the model; here the head reads [CLS], and taps real tokens."""
    model, plain = tuned(make, "prompt", "bert", "eager"), loud(make, "bert", "eager")
    prompt = model.bert.embeddings.word_embeddings.prompt.embedding.weight
    longer = torch.cat([prompt.expand(3, -1, -1), plain.get_input_embeddings()(batch["input_ids"])], 1)
    mask = torch.cat([torch.ones(3, TOKENS, dtype=torch.long), batch["attention_mask"]], 1)
    goal = plain.bert(inputs_embeds=longer, attention_mask=mask, output_hidden_states=True, output_attentions=True)
    first = goal.last_hidden_state[:, TOKENS:]
    taps = ["embedding", "hidden.1", "hidden.-1", "attention.2", "query.0", "module:bert.encoder.layer.1.output"]
    logits, values = read(model, text(batch), [*taps, "pooled"])
    torch.testing.assert_close(logits, plain.classifier(plain.bert.pooler(first)))
    torch.testing.assert_close(values["pooled"], plain.bert.pooler(first))
    torch.testing.assert_close(values["embedding"], goal.hidden_states[0][:, TOKENS:])
    torch.testing.assert_close(values["hidden.1"], goal.hidden_states[2][:, TOKENS:])
    torch.testing.assert_close(values["module:bert.encoder.layer.1.output"], values["hidden.1"])
    torch.testing.assert_close(values["hidden.-1"], first)
    torch.testing.assert_close(values["attention.2"], goal.attentions[2][..., TOKENS:, TOKENS:])
    query = plain.bert.encoder.layer[0].attention.self.query(goal.hidden_states[0])[:, TOKENS:]
    torch.testing.assert_close(values["query.0"], query)


def test_a_prompt_starts_with_words_of_the_vocabulary(make):
    words = tuned(make, "prompt", "bert").get_input_embeddings()
    distance = torch.cdist(words.prompt.embedding.weight, words.weight)
    assert distance.min(-1).values.max() == 0
    again = tuned(make, "prompt", "bert", start="random").get_input_embeddings()
    assert torch.cdist(again.prompt.embedding.weight, again.weight).min() > 0


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("start", ["random", "zero"])
def test_a_prefix_is_more_keys_and_values(make, batch, family, start):
    """Li and Liang, section 4: attention over ``[P_k; K]`` and ``[P_v; V]``; queries and positions stay."""
    model = tuned(make, "prefix", family, start=start)
    layer = model.base_model.encoder.layer[0] if family == "bert" else model.base_model.layers[0]
    attention = layer.attention.self if family == "bert" else layer.self_attn
    if family == "llama":  # without rotary positions the formula is short
        model.base_model.rotary_emb.register_forward_hook(
            lambda _, __, out: (torch.ones_like(out[0]), torch.zeros_like(out[1]))
        )
    names = ("query", "key", "value") if family == "bert" else ("q_proj", "k_proj", "v_proj")
    seen = {}
    attention.register_forward_hook(lambda module, args, given, out: seen.update(given, out=out[0]), with_kwargs=True)
    read(model, text(batch))
    query, key, value = (getattr(attention, name)(seen["hidden_states"]) for name in names)
    prefix = attention.prefix.embedding.weight
    assert prefix.shape == (TOKENS, 16) and (start == "random") == bool(prefix.abs().sum())
    key, value = (
        torch.cat([one.expand(3, -1, -1), two], 1) for one, two in zip(prefix.chunk(2, -1), (key, value), strict=True)
    )
    real = torch.cat([torch.ones(3, TOKENS, dtype=torch.bool), batch["attention_mask"].bool()], 1)[:, None, None]
    if family == "llama":
        real = real & torch.ones(5, TOKENS + 5, dtype=torch.bool).tril(TOKENS)
    heads = [one.unflatten(-1, (2, 4)).transpose(1, 2) for one in (query, key, value)]
    goal = scaled_dot_product_attention(*heads, attn_mask=real).transpose(1, 2).flatten(2)
    goal = goal if family == "bert" else attention.o_proj(goal)
    tokens = batch["attention_mask"].bool()
    torch.testing.assert_close(seen["out"][tokens], goal[tokens], rtol=1e-4, atol=1e-5)


def test_the_attention_tap_is_what_real_tokens_get(make, batch):
    model = tuned(make, "prefix", "bert")
    maps = read(model, text(batch), ["attention.0"])[1]["attention.0"]
    real = batch["attention_mask"].bool()
    sums = maps.sum(-1).transpose(1, 2)[real]
    assert maps.shape == (3, 2, 5, 5) and (sums > 0).all() and (sums < 1).all()
    assert (maps.transpose(1, 3)[~real] == 0).all()


def test_a_prefix_may_be_made_by_a_network(make, batch):
    model = tuned(make, "prefix", "bert", hidden=4)
    sizes = {
        key.rpartition("prefix.")[2]: tuple(p.shape)
        for key, p in model.named_parameters()
        if "layer.0" in key and "prefix" in key
    }
    assert sizes == {
        "embedding.weight": (TOKENS, 8), "transform.0.weight": (4, 8), "transform.0.bias": (4,),
        "transform.2.weight": (16, 4), "transform.2.bias": (16,),
    }  # fmt: skip
    read(model, text(batch))[0].square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for key, p in model.named_parameters() if ".prefix." in key)


@pytest.mark.parametrize(
    ("name", "family", "settings", "told"),
    [
        ("prefix", "distilbert", {}, r"takes earlier keys and values.* peft=prompt"),
        ("prompt", "albert", {}, r"reads the first token before it pools.*peft=none"),
        ("prompt", "bert", {"tokens": 0}, r"tokens=0 .* 1 or more"),
        ("prompt", "bert", {"start": "text"}, r"start=text .* vocabulary, random"),
        ("prefix", "bert", {"tokens": 0}, r"tokens=0 .* at least 1"),
        ("prefix", "bert", {"hidden": 0}, r"hidden=0 .* at least 1"),
        ("prefix", "bert", {"start": "vocabulary"}, r"start=vocabulary .* random, zero"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(make, name, family, settings, told):
    with pytest.raises(UserError, match=told):
        tuned(make, name, family, **settings)


def test_a_prompt_too_long_for_the_positions_is_told(make, batch):
    with pytest.raises(UserError, match=r"30 tokens before a text of 5, but BertModel has 32 positions.*max_length"):
        read(tuned(make, "prompt", "bert", tokens=30), text(batch))


@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_the_named_taps_are_those_of_the_plain_model(make, batch, name):
    model = tuned(make, name, "bert")
    assert available(model) == available(make("bert"))


@pytest.mark.parametrize("family", PREFIX)
def test_a_prefix_says_what_the_librarys_own_wrapper_says_but_for_positions(make, batch, family):
    """There the prefix takes the first positions, so that texts begin at position P; here they begin at 0."""
    from peft import PrefixTuningConfig, get_peft_model

    model = tuned(make, "prefix", family)
    own = [value for key, value in model.named_parameters() if key.endswith("prefix.embedding.weight")]
    settings = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=TOKENS)
    whole = get_peft_model(loud(make, family), settings).eval()
    whole.prompt_encoder["default"].embedding.weight.data = torch.cat(own, 1).detach()
    mask = batch["attention_mask"]
    places = (
        (mask.cumsum(-1) + TOKENS) * mask if family == "roberta" else torch.arange(TOKENS, TOKENS + 5).expand(3, -1)
    )
    ours, theirs = model(**batch, position_ids=places).logits, whole(**batch).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["roberta", "gpt2", "llama"])
def test_a_prompt_says_what_the_librarys_own_wrapper_says_of_a_text_without_padding(make, batch, family):
    """RoBERTa's head and the decoders' read a virtual token, or padding, in the library: not where there is neither."""
    from peft import PromptTuningConfig, get_peft_model

    model = tuned(make, "prompt", family)
    whole = get_peft_model(
        loud(make, family), PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=TOKENS)
    ).eval()
    whole.prompt_encoder[
        "default"
    ].embedding.weight.data = model.get_input_embeddings().prompt.embedding.weight.detach()
    full = {key: value[:1] for key, value in batch.items()}
    ours, theirs = read(model, text(full))[0], whole(**full).logits
    if family == "roberta":
        theirs = whole.base_model.classifier(whole(**full, output_hidden_states=True).hidden_states[-1][:, TOKENS:])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
