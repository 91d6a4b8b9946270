"""Magnitude pruning: the right number of zeros in the right places, which stay zero and are remembered."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from kdlab.error import UserError
from kdlab.transform.magnitude import Magnitude, smallest, sparsity_at, two_of_four

WIDE = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def bert() -> nn.Module:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**WIDE))


def zeros(model: nn.Module) -> list[float]:
    found = [one for one in model.bert.encoder.modules() if isinstance(one, nn.Linear)]
    return [float((one.weight == 0).double().mean()) for one in found]


def disturb(model: nn.Module) -> None:
    with torch.no_grad():
        for one in model.parameters():
            one += 0.01 * torch.randn_like(one)


@given(st.integers(1, 6), st.integers(1, 9), st.floats(0, 0.99))
def test_the_weights_that_stay_are_at_least_as_large_as_those_that_go(rows, columns, share):
    weight = torch.randn(rows, columns)
    kept = smallest(weight, share)
    assert int((~kept).sum()) == round(share * weight.numel())
    if kept.any() and (~kept).any():
        assert weight[kept].abs().min() >= weight[~kept].abs().max()


@given(st.integers(1, 5), st.integers(1, 4))
def test_two_of_each_four_stay_and_they_are_the_largest(rows, groups):
    weight = torch.randn(rows, 4 * groups)
    kept = two_of_four(weight).view(-1, 4)
    values = weight.abs().view(-1, 4)
    assert (kept.sum(1) == 2).all()
    assert all(values[i][kept[i]].min() >= values[i][~kept[i]].max() for i in range(len(kept)))


def test_sparsity_rises_to_its_end_and_stays():
    found = [sparsity_at(step / 10, 0.6, 0.5) for step in range(11)]
    assert found == sorted(found) and found[0] == 0 and found[5:] == [0.6] * 6
    assert sparsity_at(0.0, 0.6, 0.0) == 0.6


@pytest.mark.parametrize("ramp", [0.0, 0.5])
def test_the_zeros_of_the_end_stay_zero_while_the_others_learn(ramp):
    model, one = bert(), Magnitude(0.75, ramp=ramp)
    one.attach(model, None)
    assert (max(zeros(model)) > 0) == (ramp == 0)
    places = []
    for step in range(11):
        disturb(model)
        one.after_step(model, step / 10)
        if one.complete(step / 10):
            places.append(torch.cat([mask.flatten() for mask in one.masks.values()]))
            assert zeros(model) == pytest.approx([0.75] * 12, abs=0.01)
    assert all(torch.equal(place, places[0]) for place in places)


def test_two_of_four_hold_from_the_first_step():
    model = Magnitude(pattern="2:4").attach(bert(), None)
    assert zeros(model) == [0.5] * 12


def test_a_resumed_run_has_the_same_zeros():
    model, one = bert(), Magnitude(0.5, ramp=0.2)
    one.attach(model, None)
    for step in range(4):
        disturb(model)
        one.after_step(model, step / 10)
    again = Magnitude(0.5, ramp=0.2)
    again.attach(model, None)
    again.load_state(one.state())
    disturb(model)
    again.after_step(model, 0.5)
    assert all(torch.equal(again.masks[name], mask) for name, mask in one.masks.items())


def test_what_cannot_be_pruned_is_one_sentence():
    with pytest.raises(UserError, match="pattern=2:4 needs widths"):
        Magnitude(pattern="2:4").attach(BertForSequenceClassification(BertConfig(**WIDE | {"hidden_size": 18})), None)
    with pytest.raises(UserError, match="choose any or 2:4"):
        Magnitude(pattern="1:4")
