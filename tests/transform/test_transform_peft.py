"""Every method of conf/peft on tiny models of every family: what learns, what is said, what is left when merged."""

from __future__ import annotations

import copy

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf
from small import options
from torch._dynamo.exc import TorchDynamoException

from kdlab.config import conf
from kdlab.error import UserError
from kdlab.freeze.apply import parameter_groups, select, trainable_table
from kdlab.freeze.none import Nothing
from kdlab.model.block import blocks
from kdlab.model.save import load, save
from kdlab.model.tap import available, read
from kdlab.module.compiled import Compiled
from tests.batches import text

FAMILIES = ["bert", "roberta", "distilbert", "gpt2", "electra", "llama"]
METHODS = [name for name in options("peft") if name != "none"]
SIZE = {"rank": 2, "size": 3, "tokens": 3}


def method(name: str, **more):
    node = OmegaConf.load(conf() / "peft" / f"{name}.yaml")
    for key in set(map(str, node)) & set(SIZE):
        node[key] = SIZE[key]
    kind, settings = get_object(node.pop("_target_")), OmegaConf.to_container(node)
    return kind(**settings | more)


REFUSED = [("prefix", "distilbert")]  # whose attention takes no earlier keys
CASES = [(name, family) for name in METHODS for family in FAMILIES if (name, family) not in REFUSED]


@pytest.fixture
def loud(make):
    """Models whose logits are of the size of 1, so that 1e-5 is nothing: random weights of the usual scale whisper."""

    def build(family):
        model = make(family)
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.data *= 12
        return model

    return build


def tuned(make, name, family, **more):
    """A model and the names of what was added to it."""
    model = make(family)
    before = {id(parameter) for parameter in model.parameters()}
    peft = method(name, **more)
    model = peft.attach(model, None)
    return peft, model, {key for key, value in model.named_parameters() if id(value) not in before}


def shake(model, names) -> None:
    """Let what was added say something."""
    torch.manual_seed(3)
    for key, value in model.named_parameters():
        if key in names:
            value.data += 0.5 * torch.randn_like(value)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_only_what_was_added_and_the_head_learn(make, name, family):
    _, model, added = tuned(make, name, family)
    head = {id(parameter) for parameter in blocks(model)[-1].parameters}
    asking = {key for key, value in model.named_parameters() if value.requires_grad}
    assert added and asking == added | {key for key, value in model.named_parameters() if id(value) in head}
    cut = select(Nothing(), model, blocks(model))
    held = [p for group in parameter_groups(Nothing(), cut, 1.0, 0.0) for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters() if p.requires_grad}
    rows = trainable_table(Nothing(), cut, 1.0)
    assert sum(row["trainable"] for row in rows) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(row["parameters"] for row in rows) == sum(p.numel() for p in model.parameters())


@pytest.mark.sampled(12, tried="all")
@pytest.mark.parametrize(("name", "family"), CASES)
def test_it_begins_as_the_model_that_it_was_added_to_and_taps_have_their_shapes(make, batch, name, family):
    plain, (_, model, _) = make(family), tuned(make, name, family)
    taps = available(plain)
    assert available(model) == taps
    logits, values = read(plain, text(batch), taps)
    again, others = read(model.eval(), text(batch), taps)
    assert {tap: value.shape for tap, value in others.items()} == {tap: value.shape for tap, value in values.items()}
    if method(name).plain:  # an adapter is nearly nothing at first; prompts and prefixes are not
        torch.testing.assert_close(again, logits)
        for tap in taps:
            torch.testing.assert_close(others[tap], values[tap])


@pytest.mark.parametrize(("name", "family"), CASES)
def test_every_added_parameter_gets_a_gradient_and_changes_the_logits(make, batch, name, family):
    _, model, added = tuned(make, name, family)
    shake(model, added)
    read(model.eval(), text(batch))[0].square().sum().backward()
    for key, value in model.named_parameters():
        assert (value.grad is not None) == value.requires_grad, key
        assert key not in added or value.grad.abs().sum() > 0, key


@pytest.mark.sampled(12, tried="all")
@pytest.mark.parametrize(("name", "family"), CASES)
def test_merged_it_says_the_same_and_is_the_plain_model(loud, batch, tmp_path, name, family):
    peft, model, added = tuned(loud, name, family)
    shake(model, added)
    said = read(model.eval(), text(batch))[0]
    assert not torch.allclose(said, read(loud(family), text(batch))[0], atol=1e-2), "what was added does nothing"
    copied = copy.deepcopy(model)
    merged = peft.finish(model)
    torch.testing.assert_close(read(merged.eval(), text(batch))[0], said, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(read(copied, text(batch))[0], said)
    plain = loud(family)
    if peft.plain:
        assert {key: type(one) for key, one in merged.named_modules()} == {
            key: type(one) for key, one in plain.named_modules()
        }
        loaded, _ = load(save(merged, None, tmp_path / "model"))
        torch.testing.assert_close(read(loaded, text(batch))[0], said, rtol=1e-5, atol=1e-5)
    else:
        assert merged is model
        with pytest.raises(UserError, match="missing, extra"):
            load(save(merged, None, tmp_path / "model"))


@pytest.mark.parametrize("name", METHODS)
def test_a_model_without_attention_is_refused_with_what_is_allowed(make_mlp, name):
    with pytest.raises(UserError, match=r"minilm_l6.*peft=none"):
        method(name).attach(make_mlp(), None)


@pytest.mark.parametrize(
    ("name", "setting"),
    [("lora", {"rank": 0}), ("lora", {"alpha": 0}), ("lora", {"dropout": 1.0}), ("adapter", {"size": 0})],
)
def test_values_out_of_range_are_told(name, setting):
    with pytest.raises(UserError, match=next(iter(setting))):
        method(name, **setting)


@pytest.mark.parametrize("places", [[], ["keys"]])
def test_places_are_told(places):
    with pytest.raises(UserError, match=r"choose .*query, key, value"):
        method("lora", modules=places)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_places_are_all_linear_maps_of_the_layers(make, family):
    model = make(family)
    inside = {
        id(part)
        for block in blocks(model) if block.name.startswith("layer.")
        for module in block.modules
        for part in module.modules() if type(part).__name__ in ("Linear", "Conv1D")
    }  # fmt: skip
    maps = {name for name, module in model.named_modules() if id(module) in inside}
    _, model, added = tuned(make, "lora", family, modules=["all"])
    assert {key.partition(".lora_")[0] for key in added} == maps


def test_lora_is_the_formula(make, batch):
    """``W x + b + alpha / rank B A x`` at the query of a layer."""
    _, model, added = tuned(make, "lora", "bert", rank=3, alpha=5)
    shake(model, added)
    query = model.bert.encoder.layer[1].attention.self.query
    inner = torch.randn(2, 8)
    low = query.lora_B["default"].weight @ query.lora_A["default"].weight
    torch.testing.assert_close(query(inner), inner @ (query.base_layer.weight + 5 / 3 * low).T + query.base_layer.bias)


def test_dora_keeps_a_norm_of_each_output(make):
    """Equation 5: the columns of ``W + BA`` at norm 1, each times its magnitude; here one an output."""
    peft, model, added = tuned(make, "dora", "bert")
    shake(model, added)
    query = model.bert.encoder.layer[0].attention.self.query
    scale = peft.alpha / peft.rank
    whole = query.base_layer.weight + scale * query.lora_B["default"].weight @ query.lora_A["default"].weight
    magnitude = query.lora_magnitude_vector["default"].weight
    goal = magnitude[:, None] * whole / whole.norm(dim=1, keepdim=True)
    peft.finish(model)
    torch.testing.assert_close(model.bert.encoder.layer[0].attention.self.query.weight, goal)


def test_ia3_multiplies_keys_values_and_what_enters_the_second_map(make, batch):
    _, model, added = tuned(make, "ia3", "bert")
    shake(model, added)
    layer, inner = model.bert.encoder.layer[0], torch.randn(2, 8)
    key = layer.attention.self.key
    torch.testing.assert_close(key(inner), key.base_layer(inner) * key.ia3_l["default"].flatten())
    output, inner = layer.output.dense, torch.randn(2, 16)
    torch.testing.assert_close(output(inner), output.base_layer(inner * output.ia3_l["default"].flatten()))
    assert not any("query" in name for name in added)


def test_an_adapter_is_a_bottleneck_before_the_residual_sum(make):
    """Figure 2 of Houlsby et al.: down, nonlinearity, up, and a skip connection inside; 2 m d + m + d parameters."""
    _, model, added = tuned(make, "adapter", "bert")
    shake(model, added)
    dense = model.bert.encoder.layer[0].output.dense
    own, inner = dense.adapter, torch.randn(5, 16)
    plain = inner @ dense.weight.T + dense.bias
    hidden = torch.nn.functional.gelu(plain @ own.down.weight.T + own.down.bias)
    torch.testing.assert_close(dense(inner), plain + hidden @ own.up.weight.T + own.up.bias)
    assert sum(p.numel() for p in own.parameters()) == 2 * 3 * 8 + 3 + 8
    assert len(added) == 4 * 2 * 4, "two a layer, of four tensors each"


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_it_compiles_to_one_graph_where_it_is_said_to(make, batch, name):
    peft, model, _ = tuned(make, name, "bert")
    forward = Compiled(model.eval(), ["hidden.0"], backend="eager")
    if not peft.compiles:
        with pytest.raises(TorchDynamoException):
            forward.reader.read(text(batch))
        return
    logits, taps = forward.reader.read(text(batch))
    again, others = read(model, text(batch), ["hidden.0"])
    torch.testing.assert_close(logits, again)
    torch.testing.assert_close(taps["hidden.0"], others["hidden.0"])
