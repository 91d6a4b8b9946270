"""Structured pruning: what adds nothing goes first, the rest computes the same, and the saved model is smaller."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)  # fmt: skip

from kdlab.error import UserError
from kdlab.model.save import load, save, size_bytes
from kdlab.transform.structured import Structured, importance

SMALL = {"vocab_size": 50, "num_labels": 3}
WIDE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32}
IDS = torch.arange(4, 24).view(2, 10)


def bert() -> nn.Module:
    return BertForSequenceClassification(BertConfig(**SMALL, **WIDE)).eval()


def roberta() -> nn.Module:
    return RobertaForSequenceClassification(RobertaConfig(**SMALL, **WIDE, pad_token_id=0)).eval()


def distilbert() -> nn.Module:
    return DistilBertForSequenceClassification(
        DistilBertConfig(**SMALL, dim=16, n_layers=3, n_heads=4, hidden_dim=32)
    ).eval()


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def numbers(model: nn.Module) -> int:
    return sum(one.numel() for one in model.parameters())


@pytest.mark.parametrize("make", [bert, roberta, distilbert])
def test_units_that_add_nothing_go_first_and_the_logits_stay(make):
    torch.manual_seed(0)
    model = make()
    for one in model.modules():
        if isinstance(one, nn.Linear) and one.in_features == 32:
            one.weight.data[:, torch.randperm(32)[:16]] = 0
    pruned = Structured(units=0.5).attach(copy.deepcopy(model), None)
    torch.testing.assert_close(logits(pruned), logits(model))
    assert numbers(model) - numbers(pruned) == 3 * 16 * (16 + 1 + 16)


def test_heads_that_add_nothing_go_first_and_the_logits_stay():
    torch.manual_seed(0)
    model = bert()
    for layer in model.bert.encoder.layer:
        for head in torch.randperm(4)[:2].tolist():
            layer.attention.output.dense.weight.data[:, 4 * head : 4 * head + 4] = 0
    pruned = Structured(heads=0.5, units=1.0).attach(copy.deepcopy(model), None)
    torch.testing.assert_close(logits(pruned), logits(model))
    assert numbers(model) - numbers(pruned) == 3 * (3 * 8 * 17 + 8 * 16)


def test_layers_stay_in_their_order_and_parameters_stay_the_same_objects():
    model = bert()
    kept = {id(one) for layer in (0, 2) for one in model.bert.encoder.layer[layer].parameters()}
    Structured(layers=[0, -1], units=0.25).attach(model, None)
    assert {id(one) for one in model.bert.encoder.parameters()} == kept
    assert (model.config.num_hidden_layers, model.config.intermediate_size) == (2, 8)


@pytest.mark.parametrize("make", [bert, distilbert])
def test_a_saved_model_is_smaller_and_its_own_class_loads_it(make, tmp_path):
    model = make()
    before = size_bytes(save(model, None, tmp_path / "before"))
    Structured(layers=[0, 2], units=0.5).attach(model, None)
    folder = save(model, None, tmp_path / "after")
    loaded = load(folder)[0]
    assert torch.equal(logits(loaded), logits(model)) and size_bytes(folder) < 0.8 * before
    assert torch.equal(logits(type(model).from_pretrained(folder).eval()), logits(model))


def test_fewer_heads_need_kdlab_and_all_heads_do_not():
    assert Structured(units=0.5).plain and not Structured(heads=0.5).plain


@pytest.mark.parametrize(
    ("settings", "make", "words"),
    [
        ({"units": 1.0}, bert, "prune nothing"),
        ({"layers": [0, 7]}, bert, r"layers=\[0, 7\].*3 layers"),
        ({"heads": 0.5}, distilbert, "heads prunes models like BERT"),
        ({}, lambda: GPT2ForSequenceClassification(GPT2Config(**SMALL, n_embd=16, n_layer=1, n_head=2)), "Conv1D"),
    ],
)
def test_what_cannot_be_pruned_is_one_sentence(settings, make, words):
    with pytest.raises(UserError, match=words):
        Structured(**settings).attach(make(), None)


def test_importance_does_not_change_when_scale_moves_between_the_two_maps():
    enter, leave, scale = torch.randn(6, 4), torch.randn(3, 6), torch.rand(6) + 0.5
    torch.testing.assert_close(importance(enter * scale[:, None], leave / scale), importance(enter, leave))


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1.0, 0.5])
def test_a_teacher_is_pruned_distilled_and_read_again(kdlab, stored_run, tiny, heads):
    (teacher,) = Path("outputs/finetune").iterdir()
    words = [word for word in tiny["distill"] if word.startswith("datamodule")]
    words += [f"teacher.run={teacher.name}", "student.layers=[0,1]", "transform=[structured,magnitude]", "logger=none"]
    words += [f"transform.structured.heads={heads}", "trainer.max_steps=2", "trainer.max_epochs=-1"]
    code, _, err = kdlab("distill", *words)
    assert code == 0, err
    run = next(one for one in Path("outputs/distill").iterdir() if one.name != stored_run.name)
    assert size_bytes(run / "model") < size_bytes(teacher / "model")
    code, out, err = kdlab("evaluate", f"run={run.name}", "repeats=1")
    assert code == 0 and "distilled" in out, err
    code, _, err = kdlab("export", f"run={run.name}", "format=torch_export", "folder=made", "repeats=1")
    assert code == 0 and json.loads(Path("made/parity.json").read_text())["equal_decisions"] == 1, err
    weights = load_file(run / "model" / "model.safetensors")["bert.encoder.layer.1.output.dense.weight"]
    assert weights.shape == (16, 16) and float((weights == 0).double().mean()) == 0.5
