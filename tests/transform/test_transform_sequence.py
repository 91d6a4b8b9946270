"""Several transforms in a row: their order, what learns, what they remember, and what a run refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlab.error import UserError
from kdlab.model.block import blocks
from kdlab.model.tap import read
from kdlab.transform.adapter import Adapter
from kdlab.transform.base import Transform
from kdlab.transform.lora import LoRA
from kdlab.transform.sequence import Transforms
from tests.batches import text


class Noted(Transform):
    """Writes down what is asked of it."""

    def __init__(self, name: str, seen: list[tuple[str, str]]) -> None:
        self.name, self.seen = name, seen
        self.value: object = None

    def attach(self, model, data):
        self.seen.append((self.name, f"attach {data}"))
        return model

    def after_step(self, model, progress):
        self.seen.append((self.name, f"step {progress}"))

    def complete(self, progress):
        return progress >= 0.5

    def finish(self, model):
        self.seen.append((self.name, "finish"))
        return model

    def state(self):
        return {} if self.value is None else {"value": self.value}

    def load_state(self, state):
        self.value = state["value"]


def test_they_are_attached_in_order_and_finished_in_reverse():
    seen: list[tuple[str, str]] = []
    row = Transforms({"peft": Noted("a", seen), "transform.b": Noted("b", seen)})
    model = nn.Linear(2, 2)
    assert row.attach(model, "data") is model
    row.after_step(model, 0.25)
    assert row.finish(model) is model
    assert seen == [
        ("a", "attach data"), ("b", "attach data"), ("a", "step 0.25"), ("b", "step 0.25"), ("b", "finish"),
        ("a", "finish"),
    ]  # fmt: skip


def test_a_row_is_complete_when_each_is():
    assert Transforms().complete(0.0)
    row = Transforms({"a": Noted("a", []), "b": Noted("b", [])})
    assert not row.complete(0.4) and row.complete(0.5)


@pytest.mark.parametrize("value", [torch.arange(3), {"x": [torch.ones(2), 1, None, "y"]}, (1.5, True)], ids=str)
def test_a_state_goes_through_a_checkpoint(tmp_path, value):
    row, other = (Transforms({"peft": Noted("a", []), "transform.b": Noted("b", [])}) for _ in range(2))
    row.parts["transform.b"].value = value  # type: ignore[attr-defined]
    assert set(row.state()) == {"transform.b"}
    torch.save(row.state(), tmp_path / "state")
    other.load_state(torch.load(tmp_path / "state", weights_only=True), torch.device("cpu"))
    assert str(other.parts["transform.b"].value) == str(value)  # type: ignore[attr-defined]
    assert other.parts["peft"].value is None  # type: ignore[attr-defined]


def test_tensors_of_a_state_come_back_on_the_device_of_the_model():
    row = Transforms({"a": Noted("a", [])})
    row.load_state({"a": {"value": [torch.ones(2)]}}, torch.device("meta"))
    assert row.parts["a"].value[0].device.type == "meta"  # type: ignore[attr-defined]


def test_what_no_checkpoint_can_hold_is_refused_when_it_is_kept():
    row = Transforms({"transform.a": Noted("a", [])})
    row.parts["transform.a"].value = {"masks": {3}}  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"transform.a \(Noted\) holds a set"):
        row.state()


def test_a_state_that_nothing_takes_up_is_named():
    class Half(Transform):
        def attach(self, model, data):
            return model

    with pytest.raises(NotImplementedError, match="Half has a state"):
        Half().load_state({"a": 1})


@pytest.mark.parametrize("order", [("lora", "adapter"), ("adapter", "lora")])
def test_two_methods_learn_together_and_each_comes_off(make, batch, order):
    kinds = {"lora": LoRA(2, 4.0, 0.0, ["query"]), "adapter": Adapter(3)}
    row = Transforms({name: kinds[name] for name in order})
    plain, model = make("bert"), make("bert")
    bare = {name for name, _ in plain.named_parameters()}
    row.attach(model, None)
    head = {id(one) for one in blocks(model)[-1].parameters}
    learning = {name for name, one in model.named_parameters() if one.requires_grad and id(one) not in head}
    assert all(any(part in name for name in learning) for part in (".lora_A.", ".lora_B.", ".adapter."))
    assert not {name for name in learning if name.replace(".base_layer", "") in bare}
    torch.manual_seed(0)
    for name, one in model.named_parameters():
        if name in learning:
            one.data += 0.3 * torch.randn_like(one)
    before = read(model.eval(), text(batch))[0]
    assert row.unplain == ["adapter"] and model.tuned_by == "adapter"
    torch.testing.assert_close(read(row.finish(model).eval(), text(batch))[0], before, rtol=1e-5, atol=1e-5)
    assert not any("lora" in name for name, _ in model.named_parameters())


class Whole(Noted):
    compiles = False


@pytest.mark.parametrize(
    ("one", "split", "compiled", "told"),
    [
        (Noted("a", []), True, False, r"transform.a \(Noted\) needs whole weights.*trainer=ddp"),
        (Whole("a", []), False, True, r"transform.a \(Whole\) changes a model so that it does not compile"),
        (LoRA(2, 4.0, 0.0, ["query"], magnitude=True), False, True, r"transform.a \(LoRA\) .* not compile"),
    ],
)
def test_a_trainer_that_does_not_suit_is_refused_in_a_sentence(one, split, compiled, told):
    Transforms({"transform.a": one}).check(split=False, compiled=False)
    with pytest.raises(UserError, match=told):
        Transforms({"peft": LoRA(2, 4.0, 0.0, ["query"]), "transform.a": one}).check(split, compiled)
