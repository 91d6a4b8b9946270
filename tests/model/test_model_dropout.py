"""Quickly drawn masks do what torch's do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdlab.model.dropout import Dropout, quicken


@given(
    p=st.floats(0, 1),
    shape=st.lists(st.integers(0, 7), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_an_element_is_dropped_or_scaled(p: float, shape: list[int], dtype: torch.dtype) -> None:
    values = torch.ones(shape, dtype=dtype, requires_grad=True)
    out = Dropout(p)(values)
    assert out.shape == values.shape and out.dtype == dtype
    out.sum().backward()
    assert torch.equal(values.grad, out.detach())  # the gradient goes through the same mask
    kept = out[out != 0].float()
    assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - p) if p < 1 else 0), rtol=2**-7 if p < 0.999 else 1)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_share_and_the_mean_are_those_of_torch(p: float) -> None:
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(1_000_000))
    assert (out == 0).float().mean().item() == pytest.approx(p, abs=0.002)
    assert out.mean().item() == pytest.approx(1.0 if p < 1 else 0.0, abs=0.01)


def test_neighbours_are_drawn_apart() -> None:
    torch.manual_seed(0)
    out = (Dropout(0.5)(torch.ones(400_000)) != 0).float()
    for step in range(1, 9):  # four elements share one draw of the generator
        assert abs(torch.corrcoef(torch.stack([out[:-step], out[step:]]))[0, 1].item()) < 0.01


def test_the_generator_decides_the_mask() -> None:
    layer, values = Dropout(0.5), torch.ones(1000)
    first = [(torch.manual_seed(seed), layer(values))[1] for seed in (1, 1, 2)]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])


def test_eval_mode_changes_nothing() -> None:
    values = torch.randn(10)
    assert Dropout(0.5).eval()(values) is values


def test_every_dropout_of_a_model_is_put_in_place_and_no_weight_changes() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.3)), nn.Dropout(0.1).eval())
    before = dict(model.state_dict())
    quicken(model)
    assert [(one.p, one.training) for one in model.modules() if isinstance(one, Dropout)] == [(0.3, True), (0.1, False)]
    assert not any(type(one) is nn.Dropout for one in model.modules())
    after = model.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in after)
