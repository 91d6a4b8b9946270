"""Gradients are clipped as torch clips them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlab.module.gradient import clip_norm


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=5), st.floats(0.1, 20), st.booleans())
def test_gradients_are_clipped_as_torch_does(values, most, one_more):
    def parameters() -> list[torch.Tensor]:
        made = [torch.zeros(1), torch.zeros(len(values)), torch.zeros(3)]
        made[1].grad = torch.tensor(values)
        if one_more:
            made[2].grad = torch.ones(3)
        return made

    ours, theirs = parameters(), parameters()
    clip_norm(ours, most)
    torch.nn.utils.clip_grad_norm_(theirs, most)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.grad is None) == (other.grad is None)
        assert mine.grad is None or torch.equal(mine.grad, other.grad)


def test_gradients_that_are_short_enough_are_not_written():
    one = torch.zeros(2)
    one.grad = torch.tensor([0.3, 0.4])
    written = one.grad._version
    clip_norm([one], 1.0)
    assert one.grad._version == written
    clip_norm([one], 0.1)
    assert one.grad._version > written


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_gradient_is_not_taken_for_a_short_one(bad):
    one = torch.zeros(2)
    one.grad = torch.tensor([bad, 1.0])
    clip_norm([one], 1.0)
    assert not one.grad.isfinite().all()
