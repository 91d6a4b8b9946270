"""Policies that choose inside of blocks: what learns, what has optimizer state, and what is in eval mode."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from kdlab.freeze.apply import apply, parameter_groups, prepare, select, trainable_table
from kdlab.freeze.bitfit import BitFit
from kdlab.freeze.layernorm import LayerNorm
from kdlab.freeze.none import Nothing
from kdlab.model.block import Block, blocks


def bert():
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16,
    ))  # fmt: skip


CASES = [(LayerNorm(), lambda name: "LayerNorm" in name), (BitFit(), lambda name: name.endswith("bias"))]
IDS = ["layernorm", "bitfit"]


@pytest.mark.parametrize(("policy", "chosen"), CASES, ids=IDS)
def test_what_is_chosen_and_the_head_learn_and_nothing_else_has_a_gradient_or_a_state(policy, chosen):
    model = bert()
    head = {id(parameter) for parameter in blocks(model)[-1].parameters}
    cut = select(policy, model, blocks(model))
    prepare(policy, cut)
    optimizer = torch.optim.AdamW(parameter_groups(policy, cut, lr=0.1, weight_decay=0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for progress in (0.0, 1.0):
        apply(policy, cut, progress)
        optimizer.zero_grad()
        model(torch.arange(12).view(2, 6), labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
    for name, value in model.named_parameters():
        learns = chosen(name) or id(value) in head
        assert value.requires_grad == (value.grad is not None) == (value in optimizer.state) == learns, name
        assert torch.equal(value, before[name]) or learns, name
    rows = trainable_table(policy, cut, 1.0)
    assert sum(row["trainable"] for row in rows) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_bitfit_is_less_than_a_thousandth_of_bert_base():
    """Of the parameters below the head."""
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig())
    share = {}
    for name, policy in (("bitfit", BitFit()), ("layernorm", LayerNorm())):
        rows = trainable_table(policy, select(policy, model, blocks(model)), 1.0)[:-1]
        share[name] = sum(row["trainable"] for row in rows) / sum(row["parameters"] for row in rows)
    assert round(100 * share["bitfit"], 2) == 0.09
    assert sum(row["trainable"] for row in rows) == 25 * 2 * 768, "a norm below the layers, and two in each of 12"


@pytest.mark.parametrize(("policy", "chosen"), CASES, ids=IDS)
def test_a_module_that_is_left_out_altogether_is_in_eval_mode_and_the_others_train(policy, chosen):
    model, cut = bert(), None
    cut = select(policy, model, blocks(model))
    for _ in range(2):
        model.train()
        apply(policy, cut, 0.5)
        names = {id(value): name for name, value in model.named_parameters()}
        for block in cut[:-1]:
            for module in [part for top in block.modules for part in top.modules()]:
                own = [names[id(value)] for value in module.parameters()]
                if own:
                    assert module.training == any(map(chosen, own)), own
    layer = model.bert.encoder.layer[0]
    assert layer.attention.self.dropout.training == (policy is CASES[1][0]), "frozen as a whole only by layernorm"
    assert layer.output.dropout.training


class Normed(nn.Module):
    """Blocks with running statistics."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(3))

    def forward(self, value):
        for part in self.parts:
            value = part(value)
        return value

    def blocks(self):
        return [Block(name, [part]) for name, part in zip(("embedding", "layer.0", "head"), self.parts, strict=True)]


def test_running_statistics_of_what_is_frozen_stand_still():
    model = Normed()
    for policy, moves in ((LayerNorm(), False), (BitFit(), True), (Nothing(), True)):
        before = model.parts[1][1].running_mean.clone()
        apply(policy, select(policy, model, blocks(model)), 0.5)
        model.requires_grad_(True)
        model(torch.randn(8, 4) + 3)
        assert torch.equal(model.parts[1][1].running_mean, before) != moves, policy


def test_what_asks_for_no_gradient_at_the_start_never_learns():
    model = bert()
    model.bert.encoder.layer[0].requires_grad_(False)
    cut = select(Nothing(), model, blocks(model))
    prepare(Nothing(), cut)
    apply(Nothing(), cut, 1.0)
    assert not any(value.requires_grad for value in model.bert.encoder.layer[0].parameters())
    assert not model.bert.encoder.layer[0].training, "a block in which nothing learns is in eval mode"
    assert model.bert.encoder.layer[1].training
