"""Queries, keys and values of every family are what its attention is made of."""

import pytest
import torch
from transformers import AlbertConfig, AutoModelForSequenceClassification, BertConfig

from kdlab.error import UserError
from kdlab.loss.relation.tokens import log_relation
from kdlab.model.family.attention import KINDS, projections
from kdlab.model.tap import available, read
from tests.batches import text

FAMILIES = ["bert", "roberta", "distilbert", "electra", "albert", "gpt2"]
TAPS = [f"{kind}.{index}" for kind in KINDS for index in range(4)]


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_what_queries_and_keys_say(family, make, batch):
    """Every layer: the relation of its queries and keys is the attention that the model itself computes."""
    model = make(family)
    for parameter in model.parameters():
        parameter.data *= 10  # at the usual scale every attention is nearly uniform
    assert set(TAPS) <= set(available(model))
    _, taps = read(model, text(batch), [*TAPS, *(f"attention.{index}" for index in range(4))])
    real = batch["attention_mask"].bool()
    seen = []
    for index in range(4):
        query, key = taps[f"query.{index}"], taps[f"key.{index}"]
        assert query.shape == taps[f"value.{index}"].shape == (3, 5, 8)
        mine = log_relation(query, key, real, 2, causal=family == "gpt2").exp()
        theirs = taps[f"attention.{index}"]
        rows = real[:, None, :, None].expand_as(mine)
        torch.testing.assert_close(mine[rows], theirs[rows], atol=1e-5, rtol=1e-4)
        seen.append(theirs)
    assert not any(torch.allclose(seen[0], other, atol=1e-3) for other in seen[1:]), "layers could be confused"


@pytest.mark.parametrize("family", FAMILIES)
def test_values_are_what_attention_averages(family, make, batch):
    """The output of attention, before its own projection, is the attention times the values."""
    model, caught = make(family), {}
    outer = {"distilbert": "out_lin", "gpt2": "c_proj", "albert": "dense"}.get(family, "output.dense")
    first = next(
        module for name, module in model.named_modules() if name.endswith(f"{outer}") and "attn" in name + "attn" * (
            "attention" in name
        )
    )  # fmt: skip
    with first.register_forward_pre_hook(lambda _, args: caught.setdefault("mixed", args[0])):
        _, taps = read(model, text(batch), ["value.0", "attention.0"])
    values = taps["value.0"].unflatten(-1, (2, -1)).transpose(1, 2)
    torch.testing.assert_close((taps["attention.0"] @ values).transpose(1, 2).flatten(2), caught["mixed"])


@pytest.mark.parametrize("family", FAMILIES)
def test_reading_them_leaves_the_logits_and_no_hook(family, make, batch):
    model = make(family)
    alone = read(model, text(batch))[0]
    logits, taps = read(model, text(batch), ["query.-1", "query.3", "value.-4", "value.0"])
    assert torch.equal(logits, alone)
    assert torch.equal(taps["query.-1"], taps["query.3"]) and torch.equal(taps["value.-4"], taps["value.0"])
    assert not any(module._forward_hooks for module in model.modules())


def test_gradients_flow_to_the_projection(make, batch):
    model = make("gpt2")
    read(model, text(batch), ["key.1"])[1]["key.1"].sum().backward()
    gradient = model.transformer.h[1].attn.c_attn.weight.grad
    assert gradient[:, 8:16].abs().sum() > 0 and gradient[:, :8].abs().sum() == gradient[:, 16:].abs().sum() == 0
    assert model.transformer.h[2].attn.c_attn.weight.grad is None


def test_families_without_known_projections_say_so(make, make_mlp, batch):
    """Llama's keys and values may have fewer heads; a perceptron and several attentions a layer have none to name."""
    inner = AlbertConfig(vocab_size=18, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8,
                         inner_group_num=2, embedding_size=4)  # fmt: skip
    crossed = BertConfig(vocab_size=18, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                         intermediate_size=8, is_decoder=True, add_cross_attention=True)  # fmt: skip
    others = [AutoModelForSequenceClassification.from_config(config) for config in (inner, crossed)]
    for model in (make("llama"), make_mlp(), *others):
        assert projections(model) == {}
        assert not any(tap.startswith(KINDS) for tap in available(model))
        with pytest.raises(UserError, match=r"has no tap 'query\.-1': choose among .*pooled"):
            read(model, text(batch), ["query.-1"])
