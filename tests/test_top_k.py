"""What is kept of a distribution's largest logits is exact at the temperatures that are kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.top_k import TopK, checked


def logits(seed, classes, scale=3.0):
    return scale * torch.randn(4, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.data())
def test_the_kept_outcomes_have_their_probabilities_at_every_temperature(seed, classes, data):
    k = data.draw(st.integers(1, classes))
    whole, temperatures = logits(seed, classes), (1.0, 2.5, 8.0)
    top = TopK.of(whole, k, temperatures)
    for temperature in temperatures:
        p = (whole / temperature).softmax(-1)
        outcomes = torch.cat([top.value / temperature, top.at(temperature)[:, None]], -1).softmax(-1)
        torch.testing.assert_close(outcomes[:, :-1], p.gather(-1, top.index))
        torch.testing.assert_close(outcomes[:, -1], 1 - p.gather(-1, top.index).sum(-1), atol=1e-12, rtol=1e-9)
    assert (top.value[:, 0] == 0).all() and (top.index[:, 0] == whole.argmax(-1)).all()
    assert top.value.shape[-1] == k


def test_more_than_all_are_all():
    assert TopK.of(logits(0, 3), 64).index.shape == (4, 3)


def test_a_temperature_that_is_not_kept_is_refused():
    top = TopK.of(logits(0, 5), 2, (1.0, 2.0))
    with pytest.raises(UserError, match="add it to teacher"):
        top.at(3.0)
    top.at(2.0000000001)


@pytest.mark.parametrize(("k", "temperatures"), [(0, [1]), (2, []), (2, [2]), (2, [1, 1]), (2, [1, 0]), (2, [1, -1])])
def test_what_cannot_be_kept_is_refused(k, temperatures):
    with pytest.raises(UserError, match=r"teacher\.t"):
        checked(k, temperatures)
    checked(None, temperatures)
