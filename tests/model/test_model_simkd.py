from functools import partial

import pytest
import torch
from torch import nn

from kdlab.error import UserError
from kdlab.freeze.apply import apply, parameter_groups
from kdlab.freeze.gradual import Gradual
from kdlab.freeze.head import Head
from kdlab.freeze.none import Nothing
from kdlab.model.bert import bert
from kdlab.model.block import blocks
from kdlab.model.family.find import family
from kdlab.model.layers_of_teacher import layers_of_teacher
from kdlab.model.save import load, save, weights_sha256
from kdlab.model.simkd import simkd
from kdlab.model.tap import available, read
from kdlab.task.head import mlp_head
from kdlab.task.sequence_classification import SequenceClassification
from tests.batches import text

FAMILIES = ["bert", "distilbert", "roberta", "gpt2"]
small = partial(bert, hidden_size=6, layers=2, heads=2, intermediate_size=8, dropout=0.0, max_length=16)


def student(make, labels, tokenizer, teacher="bert", inner=None, **settings):
    torch.manual_seed(1)
    return simkd(inner or small, make(teacher), labels, tokenizer, **settings)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_teachers_features_through_it_are_the_teachers_logits(family, make, tokenizer, labels, batch):
    teacher = make(family)
    made = student(make, labels, tokenizer, family).eval()
    logits, taps = read(teacher, text(batch), ["pooled"])
    torch.testing.assert_close(made.classifier(taps["pooled"]), logits)
    own, mine = read(made, text(batch), ["pooled"])
    assert mine["pooled"].shape == taps["pooled"].shape
    torch.testing.assert_close(made.classifier(mine["pooled"]), own)


@pytest.mark.parametrize("name", FAMILIES)
def test_any_family_can_be_inside_and_shows_its_layers(name, make, tokenizer, labels, batch):
    inside = make(name)
    made = student(make, labels, tokenizer, inner=lambda labels, tokenizer: make(name)).eval()
    taps = ["embedding", "hidden.0", "hidden.3", "attention.1"]
    mine, theirs = read(made, text(batch), taps)[1], read(inside, text(batch), taps)[1]
    assert all(torch.equal(mine[tap], theirs[tap]) for tap in taps), "the weights inside are kept"
    assert family(made).depth(made) == 4 and {"embedding", "hidden.3", "attention.3", "pooled"} <= set(available(made))


@pytest.mark.parametrize("family", [*FAMILIES, "mlp"])
def test_all_of_it_is_saved_and_loads_again(family, make, make_mlp, tokenizer, labels, batch, tmp_path):
    inner = (lambda labels, tokenizer: make_mlp()) if family == "mlp" else (lambda labels, tokenizer: make(family))
    made = student(make, labels, tokenizer, inner=inner).eval()
    loaded, _ = load(save(made, tokenizer, tmp_path / "model"))
    assert weights_sha256(loaded) == weights_sha256(made)
    assert torch.equal(loaded(**batch).logits, made(**batch).logits)
    assert loaded.config.id2label == dict(enumerate(labels)) and not loaded.training
    assert {name for name, _ in made.named_buffers()} >= {"classifier.weight", "classifier.bias"}


def test_layers_of_the_teacher_can_be_inside(make, tokenizer, labels, batch):
    made = student(make, labels, tokenizer, inner=partial(layers_of_teacher, [0, 1])).eval()
    taps = ["hidden.0", "hidden.1"]
    mine, theirs = read(made, text(batch), taps)[1], read(make("bert"), text(batch), taps)[1]
    assert all(torch.equal(mine[tap], theirs[tap]) for tap in taps)


def test_the_teacher_is_neither_changed_nor_shared(make, tokenizer, labels):
    teacher = make("bert")
    before = weights_sha256(teacher)
    made = simkd(small, teacher, labels, tokenizer)
    made.classifier.weight.fill_(7)
    assert weights_sha256(teacher) == before


def test_blocks_are_those_inside_with_the_projector_in_the_head_and_no_classifier(make, tokenizer, labels):
    made = student(make, labels, tokenizer)
    cut = blocks(made)
    assert [block.name for block in cut] == ["embedding", "layer.0", "layer.1", "head"]
    assert sorted(id(p) for block in cut for p in block.parameters) == sorted(id(p) for p in made.parameters())
    head = {id(p) for p in cut[-1].parameters}
    projector = made.inner.classifier
    assert isinstance(projector, nn.Sequential) and {id(p) for p in projector.parameters()} <= head
    assert not list(made.classifier.parameters())


@pytest.mark.parametrize("policy", [Nothing(), Head(), Gradual(0.5)])
def test_under_every_policy_the_classifier_stays_bit_for_bit(policy, make, tokenizer, labels, batch):
    made = student(make, labels, tokenizer)
    cut = blocks(made)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(policy, cut, 0.1, 0.1))
    for progress in (0.0, 1.0):
        apply(policy, cut, progress)
        optimizer.zero_grad()
        made.train()(**batch).logits.square().sum().backward()
        optimizer.step()
    moved = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("classifier.") for name in moved)
    assert any(name.startswith("inner.classifier.") for name in moved), "the projector learns"
    assert any("layer.0" in name for name in moved) == (not isinstance(policy, Head))


def test_a_task_with_a_head_of_its_own_leaves_the_teachers_classifier(make, tokenizer, labels):
    task = SequenceClassification(head=partial(mlp_head, width=4, dropout=0.0))
    task.prepare(labels, [1, 1, 1])
    teacher = task.attach(make("bert"))
    made = task.attach(simkd(small, teacher, labels, tokenizer))
    assert torch.equal(made.classifier.weight, teacher.classifier[-1].weight)
    assert made.classifier.in_features == 4, "what enters the last layer of that head is what is matched"


@pytest.mark.parametrize("reduction", [1, 2, 100])
def test_the_projectors_width(reduction, make, tokenizer, labels):
    made = student(make, labels, tokenizer, reduction=reduction)
    assert made.inner.classifier[0].out_features == max(1, 8 // reduction)


def test_what_cannot_be_made_is_told(make, tokenizer, labels):
    with pytest.raises(UserError, match="reduction is 0"):
        student(make, labels, tokenizer, reduction=0)
    with pytest.raises(UserError, match=r"gives 3 logits, but there are 2 labels"):
        student(make, ["x", "y"], tokenizer)
    with pytest.raises(UserError, match="transformers model"):
        student(make, labels, tokenizer, inner=lambda labels, tokenizer: nn.Linear(2, 2))
