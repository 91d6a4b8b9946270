"""What logits mean: distributions sum to one, and logits come back from them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.outcome import Bernoulli, Categorical, Real, Tokens

SHAPES = {"rows": st.integers(1, 4), "classes": st.integers(2, 5), "seed": st.integers(0, 99)}


@pytest.mark.parametrize("kind", [Categorical, Tokens, Bernoulli])
@given(**SHAPES)
def test_log_probabilities_are_distributions_and_give_the_logits_back(kind, rows, classes, seed):
    outcome = kind()
    logits = 5 * torch.randn(rows, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    log_p = outcome.log_probabilities(logits)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(log_p.shape[:-1], dtype=torch.float64))
    again = outcome.logits(log_p)
    torch.testing.assert_close(outcome.probabilities(again), outcome.probabilities(logits))
    assert torch.equal(outcome.chosen(again), outcome.chosen(logits))


@pytest.mark.parametrize("kind", [Categorical, Bernoulli])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_probabilities_of_half_precision_logits_are_float32(kind, dtype):
    logits = torch.tensor([[2.0, -1.0]], dtype=dtype)
    found = kind().probabilities(logits)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, kind().probabilities(logits.float()))


def test_states_are_those_of_each_distribution():
    assert Categorical().states(torch.tensor([2, -1])).tolist() == [[2], [-1]]
    assert Bernoulli().states(torch.tensor([[1.0, 0.0], [-1.0, -1.0]])).tolist() == [[1, 0], [-1, -1]]


def test_numbers_have_no_probabilities():
    with pytest.raises(UserError, match="no probabilities"):
        Real().probabilities(torch.zeros(1, 1))
    assert Real().chosen(torch.ones(1, 1)).tolist() == [[1.0]]
