import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kdlab.error import UserError
from kdlab.freeze.apply import apply, parameter_groups, trainable_table
from kdlab.freeze.base import Freeze
from kdlab.freeze.bottom import Bottom
from kdlab.freeze.decay import Decay
from kdlab.freeze.embeddings import Embeddings
from kdlab.freeze.gradual import Gradual
from kdlab.freeze.head import Head
from kdlab.freeze.none import Nothing
from kdlab.model.block import Block, blocks


class Net(nn.Module):
    """Four blocks, each with dropout and running statistics."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)) for _ in range(4))

    def forward(self, value):
        for part in self.parts:
            value = part(value)
        return value

    def blocks(self):
        names = ["embedding", "layer.0", "layer.1", "head"]
        return [Block(name, [part]) for name, part in zip(names, self.parts, strict=True)]


def train(model, policy, moments, optimizer=None):
    cut = blocks(model)
    optimizer = optimizer or torch.optim.AdamW(parameter_groups(policy, cut, lr=0.1, weight_decay=0.5))
    torch.manual_seed(1)
    for progress in moments:
        model.train()
        apply(policy, cut, progress)
        optimizer.zero_grad()
        cross_entropy(model(torch.randn(8, 6)), torch.arange(8) % 6).backward()
        optimizer.step()
    return optimizer


def changed(model, before):
    """Which of the four parts differ anywhere, running statistics included."""
    after = [{name: value.clone() for name, value in part.state_dict().items()} for part in model.parts]
    return [any(not torch.equal(now[key], then[key]) for key in now) for now, then in zip(after, before, strict=True)]


def snapshot(model):
    return [{name: value.clone() for name, value in part.state_dict().items()} for part in model.parts]


CASES = [
    (Nothing(), [True, True, True, True]),
    (Head(), [False, False, False, True]),
    (Embeddings(), [False, True, True, True]),
    (Bottom(1), [False, False, True, True]),
    (Bottom(2), [False, False, False, True]),
    (Decay(0.5), [True, True, True, True]),
]


@pytest.mark.parametrize(("policy", "learns"), CASES, ids=lambda value: type(value).__name__)
def test_a_frozen_block_stays_bit_by_bit_after_steps_with_weight_decay(policy, learns):
    model = Net()
    before = snapshot(model)
    optimizer = train(model, policy, [0.0, 0.5, 1.0])
    assert changed(model, before) == learns
    for part, learned in zip(model.parts, learns, strict=True):
        assert all((parameter in optimizer.state) == learned for parameter in part.parameters())
        assert all((parameter.grad is not None) == learned for parameter in part.parameters())


def test_gradual_keeps_what_is_still_frozen_and_then_moves_it():
    model, policy = Net(), Gradual(1.0)
    before = snapshot(model)
    optimizer = train(model, policy, [0.0, 0.1, 0.4])
    assert changed(model, before) == [False, False, True, True]
    assert not any(parameter in optimizer.state for parameter in model.parts[1].parameters())
    train(model, policy, [0.7, 1.0], optimizer)
    assert changed(model, before) == [True, True, True, True]


def test_dropout_is_off_in_frozen_blocks_whoever_called_train():
    model, cut = Net(), None
    cut = blocks(model)
    for _ in range(2):
        model.train()
        apply(Bottom(1), cut, 0.0)
        assert [part.training for part in model.parts] == [False, False, True, True]
        assert [part[2].training for part in model.parts] == [False, False, True, True]
    value = torch.randn(8, 6)
    assert torch.equal(model.parts[0](value), model.parts[0](value))
    assert not torch.equal(model.parts[3](value), model.parts[3](value))
    model.parts[0][2].train()
    apply(Bottom(1), cut, 0.0)
    assert not model.parts[0][2].training


def test_a_module_put_into_eval_on_purpose_stays_there_but_an_unfrozen_block_trains():
    model = Net().train()
    cut = blocks(model)
    model.parts[3][1].eval()
    apply(Head(), cut, 0.0)
    assert not model.parts[3][1].training and model.parts[3][2].training
    apply(Nothing(), cut, 0.5)
    assert all(part.training and part[2].training for part in list(model.parts)[:3])


def test_a_model_that_comes_in_eval_mode_learns_in_train_mode():
    model = Net().eval()
    apply(Nothing(), blocks(model), 0.0)
    assert all(module.training for part in model.parts for module in part.modules())


def test_a_gradient_from_before_freezing_is_dropped():
    model = Net()
    model(torch.randn(8, 6)).sum().backward()
    apply(Head(), blocks(model), 0.0)
    assert [part[0].weight.grad is None for part in model.parts] == [True, True, True, False]


def test_refreezing_stops_momentum():
    class Once(Freeze):
        def scales(self, blocks, progress):
            return (1.0 if progress < 0.5 else 0.0, *(1.0,) * (blocks - 1))

    model, policy = Net(), Once()
    optimizer = train(model, policy, [0.0])
    before = snapshot(model)
    train(model, policy, [0.6, 1.0], optimizer)
    assert changed(model, before) == [False, True, True, True]
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_groups_hold_what_ever_learns_once():
    model = Net()
    cut = blocks(model)
    for policy, expected in ((Nothing(), 4), (Gradual(0.9), 4), (Bottom(1), 2), (Head(), 1), (Decay(0.9), 4)):
        held = [id(parameter) for group in parameter_groups(policy, cut, 0.1, 0.01) for parameter in group["params"]]
        assert len(held) == len(set(held))
        assert set(held) == {id(parameter) for block in cut[4 - expected :] for parameter in block.parameters}


def test_vectors_do_not_decay_and_rates_are_scaled():
    groups = parameter_groups(Decay(0.5), blocks(Net()), lr=0.8, weight_decay=0.01)
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates["head"] == rates["head/no_decay"] == 0.8
    assert [rates[name] for name in ("layer.1", "layer.0", "embedding")] == pytest.approx([0.4, 0.2, 0.1])
    for group in groups:
        assert group["weight_decay"] == (0 if group["name"].endswith("/no_decay") else 0.01)
        assert all((parameter.ndim < 2) == (group["weight_decay"] == 0) for parameter in group["params"])


def test_blocks_with_one_rate_share_a_group():
    names = [group["name"] for group in parameter_groups(Bottom(0), blocks(Net()), 0.1, 0.01)]
    assert names == ["layer.0..head", "layer.0..head/no_decay"]


def test_nothing_to_learn_is_told():
    class Never(Freeze):
        def scales(self, blocks, progress):
            return (0.0,) * blocks

    with pytest.raises(UserError, match="freeze=none"):
        parameter_groups(Never(), blocks(Net()), 0.1, 0.01)


def test_the_table_adds_up():
    model = Net()
    rows = trainable_table(Gradual(1.0), blocks(model), 0.4)
    assert [row["block"] for row in rows] == ["embedding", "layer.0", "layer.1", "head"]
    assert sum(row["parameters"] for row in rows) == sum(parameter.numel() for parameter in model.parameters())
    assert [row["trainable"] for row in rows] == [0, 0, 54, 54]
    assert [row["lr_scale"] for row in rows] == [0, 0, 1, 1]
