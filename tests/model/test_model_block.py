import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AutoModelForSequenceClassification, DebertaV2Config, ElectraConfig, LlamaConfig

from kdlab.block import Block, assign
from kdlab.error import UserError
from kdlab.model.block import blocks

FAMILIES = ["bert", "distilbert", "roberta", "gpt2"]
SMALL = {
    "vocab_size": 18,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "num_labels": 3,
    "pad_token_id": 0,
}


def check(model, layers):
    cut = blocks(model)
    assert [block.name for block in cut] == ["embedding", *(f"layer.{index}" for index in range(layers)), "head"]
    owners = [id(parameter) for block in cut for parameter in block.parameters]
    assert len(owners) == len(set(owners))
    assert set(owners) == {id(parameter) for parameter in model.parameters()}
    return cut


def ids(parameters):
    return {id(parameter) for parameter in parameters}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_in_exactly_one_block(family, make):
    model = make(family)
    cut = check(model, 4)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(
        "embeddings" in names[one] or "wte" in names[one] or "wpe" in names[one] for one in ids(cut[0].parameters)
    )
    for index, block in enumerate(cut[1:-1]):
        assert all(f".{index}." in names[one] for one in ids(block.parameters))
    assert all("layer." not in names[one] and ".h." not in names[one] for one in ids(cut[-1].parameters))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_dropout_is_in_some_block(family, make):
    model = make(family)
    inside = {id(part) for block in blocks(model) for module in block.modules for part in module.modules()}
    assert all(id(module) in inside for module in model.modules() if isinstance(module, nn.Dropout))


def test_a_final_norm_is_the_heads(make):
    model = make("gpt2")
    assert ids([model.transformer.ln_f.weight, model.score.weight]) <= ids(blocks(model)[-1].parameters)


@pytest.mark.parametrize("config", [ElectraConfig, LlamaConfig, DebertaV2Config])
def test_other_families_need_no_code(config):
    others = {"relative_attention": True} if config is DebertaV2Config else {}
    model = AutoModelForSequenceClassification.from_config(config(**SMALL, **others))
    cut = check(model, 2)
    tables = ids(module.weight for module in model.modules() if isinstance(module, nn.Embedding))
    assert tables <= ids(cut[0].parameters)


def test_shared_layers_cannot_be_cut():
    model = AutoModelForSequenceClassification.from_config(AlbertConfig(**SMALL | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match="method blocks"):
        blocks(model)


@pytest.mark.parametrize("input", ["bag", "embedding"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_mlp_cuts_itself(input, depth, make_mlp):
    check(make_mlp(depth, input), depth - 1)


def test_a_tied_weight_and_a_stray_are_counted_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.high = nn.Linear(3, 3), nn.Linear(3, 3)
            self.high.weight = self.low.weight
            self.stray = nn.Parameter(torch.zeros(2))

        def blocks(self):
            return [Block("embedding", [self.low]), Block("head", [self.high])]

    model = Tied()
    low, high = blocks(model)
    assert ids(low.parameters) == ids([model.low.weight, model.low.bias, model.stray])
    assert ids(high.parameters) == ids([model.high.bias])
    assert assign(model, [low, high]) == [low, high]
