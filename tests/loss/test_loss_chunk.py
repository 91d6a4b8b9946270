"""A loss over some positions at a time: its gradients are computed in the forward pass, and are those of the whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kdlab.loss import chunk
from kdlab.loss.chunk import summed
from kdlab.output import Output


def parts(rows=7, width=4, classes=5):
    """A bottom, a head, and the output of both in which one position does not count."""
    torch.manual_seed(0)
    bottom, head = nn.Linear(width, width).double(), nn.Linear(width, classes).double()
    mask = torch.arange(rows) != 2
    label = torch.randint(0, classes, (rows,))
    return bottom, head, Output(bottom(torch.randn(rows, width).double()), mask, label=label, head=head)


def step(output):
    loss = output.mean(cross_entropy(output.logits, output.label, reduction="none"))
    return loss, {"loss": loss.detach()}


def gradients(size, scale=1.0, frozen=()):
    bottom, head, output = parts()
    for name in frozen:
        {"bottom": bottom, "head": head}[name].requires_grad_(False)
    if "bottom" in frozen:
        output = Output(output.logits.detach(), output.mask, label=output.label, head=head)
    whole = output.positions if size is None else None
    total, values = step(output.select(whole)) if size is None else summed(step, size, output)
    if total.requires_grad:
        (scale * total).backward()
    learned = [one.grad for model in (bottom, head) for one in model.parameters()]
    return total.detach(), values, [torch.zeros(1) if one is None else one for one in learned]


@pytest.mark.parametrize("frozen", [(), ("head",), ("bottom",), ("bottom", "head")])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_gradients_are_those_of_the_whole_times_that_of_the_total(scale, frozen):
    torch.testing.assert_close(gradients(3, scale, frozen), gradients(None, scale, frozen))


def test_float16_makes_logits_again_on_the_way_back_since_small_gradients_vanish_before(monkeypatch):
    monkeypatch.setattr(chunk, "current", lambda: "float16")
    torch.testing.assert_close(gradients(3), gradients(None))
    _, head, output = parts()
    seen = []
    head.register_forward_hook(lambda module, given, made: seen.append(len(made)))
    summed(step, 4, output)[0].backward()
    assert seen == [4, 2, 4, 2] or seen == [4, 2, 2, 4]


def test_logits_are_made_once_and_nothing_is_kept_where_nothing_learns():
    _, head, output = parts()
    seen = []
    head.register_forward_hook(lambda module, given, made: seen.append(made))
    with torch.no_grad():
        total, _ = summed(step, 4, output)
    assert [len(made) for made in seen] == [4, 2]
    assert not total.requires_grad and all(made.grad_fn is None for made in seen)
    torch.testing.assert_close(total, step(output.select(output.positions))[0])


def test_a_second_way_back_adds_the_same_gradients_once_more():
    bottom, _, output = parts()
    total, _ = summed(step, 3, output)
    total.backward(retain_graph=True)
    once = bottom.weight.grad.clone()
    total.backward()
    torch.testing.assert_close(bottom.weight.grad, 2 * once)
