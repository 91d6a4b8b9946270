import logging

import pytest
import torch
from torch import nn

from kdlab.error import UserError
from kdlab.model.family.find import family
from kdlab.model.tap import TapReaders, available, read
from tests.batches import text

FAMILIES = ["bert", "distilbert", "roberta", "gpt2"]


def eager(model):
    model.set_attn_implementation("eager")
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_taps_are_what_forward_returns_with_everything_on(name, make, batch):
    whole = eager(make(name))(**batch, output_hidden_states=True, output_attentions=True)
    model = eager(make(name))
    logits, taps = read(model, text(batch), available(model))
    assert torch.equal(logits, whole.logits)
    assert torch.equal(taps["embedding"], whole.hidden_states[0])
    for index in range(4):
        assert torch.equal(taps[f"hidden.{index}"], whole.hidden_states[index + 1])
        assert torch.equal(taps[f"attention.{index}"], whole.attentions[index])


@pytest.mark.parametrize("name", FAMILIES)
def test_negative_numbers_count_from_the_top(name, make, batch):
    taps = read(make(name), text(batch), ["hidden.-1", "hidden.3", "hidden.-4", "hidden.0"])[1]
    assert torch.equal(taps["hidden.-1"], taps["hidden.3"])
    assert torch.equal(taps["hidden.-4"], taps["hidden.0"])


@pytest.mark.parametrize("name", FAMILIES)
def test_pooled_is_what_the_final_classifier_turns_into_logits(name, make, batch):
    model = make(name)
    logits, taps = read(model, text(batch), ["pooled"])
    heads = {"bert": "classifier", "distilbert": "classifier", "roberta": "classifier.out_proj", "gpt2": "score"}
    assert taps["pooled"].shape == (3, 8)
    torch.testing.assert_close(model.get_submodule(heads[name])(taps["pooled"]), logits)


@pytest.mark.parametrize("name", FAMILIES)
def test_reading_hidden_and_pooled_leaves_the_logits_exactly(name, make, batch):
    model = make(name)
    alone = read(model, text(batch))[0]
    assert torch.equal(alone, read(model, text(batch), ["embedding", "hidden.-1", "pooled"])[0])
    assert torch.equal(alone, model(**batch).logits)
    torch.testing.assert_close(alone, read(model, text(batch), ["attention.0"])[0])


def test_nothing_is_computed_that_was_not_asked_for(make, batch):
    model, calls = make("bert"), []
    model.config.output_hidden_states = True
    plain = model.forward

    def watch(**asked):
        output = plain(**asked)
        calls.append((output.hidden_states is not None, output.attentions is not None, hooks(model)))
        return output

    model.forward = watch
    read(model, text(batch))
    read(model, text(batch), ["pooled"])
    read(model, text(batch), ["hidden.1"])
    assert calls[0] == (False, False, 0)
    assert calls[1] == (False, False, 1)
    assert calls[2][:2] == (True, False)


def hooks(model):
    return sum(len(module._forward_pre_hooks) for module in model.modules())


def test_hooks_are_removed_even_if_the_model_fails(make, batch):
    model = make("bert")
    before = hooks(model), len(model.bert.pooler._forward_hooks)
    read(model, text(batch), ["pooled", "module:bert.pooler"])
    with pytest.raises(IndexError):
        read(model, text(batch | {"input_ids": torch.full((3, 5), 999)}), ["pooled", "module:bert.pooler"])
    assert (hooks(model), len(model.bert.pooler._forward_hooks)) == before


def test_a_module_tap_is_that_modules_output_and_gradients_flow(make, batch):
    model = make("bert")
    _, taps = read(model, text(batch), ["module:bert.pooler", "pooled", "hidden.1"])
    assert torch.equal(taps["module:bert.pooler"], taps["pooled"])
    taps["hidden.1"].sum().backward()
    assert model.bert.encoder.layer[1].output.dense.weight.grad is not None
    assert model.bert.encoder.layer[2].output.dense.weight.grad is None


def test_the_switch_to_eager_attention_is_said_once(make, batch, caplog):
    model = make("bert")
    with caplog.at_level(logging.INFO, logger="kdlab"):
        probabilities = read(model, text(batch), ["attention.-1"])[1]["attention.-1"]
        read(model, text(batch), ["attention.-1"])
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3, 2, 5))
    assert [record.message.count("eager") for record in caplog.records] == [1]


BAD = [
    "hidden.4",
    "hidden.-5",
    "hidden",
    "hidden.x",
    "attention.9",
    "logits",
    "module:",
    "module:bert.nothing",
    "hidden.0.1",
]


@pytest.mark.parametrize("tap", BAD)
def test_an_unknown_tap_lists_those_there_are(tap, make, batch):
    with pytest.raises(UserError, match=r"embedding, hidden.0, .*attention.3, pooled"):
        read(make("bert"), text(batch), [tap])


def test_a_module_that_is_not_run_is_told(make, batch):
    model = make("bert")
    model.spare = nn.Linear(2, 2)
    with pytest.raises(UserError, match="never runs"):
        read(model, text(batch), ["module:spare"])


class Plain(nn.Module):
    """No transformers model: returns its logits, has neither config nor hidden states."""

    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(20, 4), nn.Linear(4, 3)

    def forward(self, input_ids, attention_mask):
        return self.out(self.table(input_ids).mean(1))


def test_a_plain_module_offers_pooled_and_modules(batch):
    model = Plain()
    assert available(model) == ["pooled"]
    logits, taps = read(model, text(batch), ["pooled", "module:table"])
    assert torch.equal(model.out(taps["pooled"]), logits)
    assert taps["module:table"].shape == (3, 5, 4)
    with pytest.raises(UserError, match="choose among pooled"):
        read(model, text(batch), ["hidden.0"])


def test_a_replaced_head_is_still_pooled(make, batch):
    model = make("bert")
    model.classifier = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    logits, taps = read(model, text(batch), ["pooled"])
    assert taps["pooled"].shape == (3, 6)
    torch.testing.assert_close(model.classifier[2](taps["pooled"]), logits)


def test_readers_look_up_taps_once_and_follow_a_module_that_is_replaced(make, batch, monkeypatch):
    model = make("bert")
    readers, looked = TapReaders(model), []
    known = type(family(model)).taps
    monkeypatch.setattr(type(family(model)), "taps", lambda self, model: looked.append(1) or known(self, model))
    for _ in range(3):
        with readers.use(["pooled", "hidden.1"]):
            _, taps = read(model, text(batch), ["pooled", "hidden.1"])
    assert len(looked) == 1 and taps["pooled"].shape == (3, 8)
    assert hooks(model) == 0, "hooks are attached only while the readers are in use"
    model.classifier = nn.Linear(8, 3)
    with readers.use(["pooled", "hidden.1"]):
        logits, taps = read(model, text(batch), ["pooled", "hidden.1"])
    torch.testing.assert_close(model.classifier(taps["pooled"]), logits)
