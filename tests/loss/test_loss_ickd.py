import laws
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.relation.ickd import ICKD, channel_difference
from kdlab.loss.term import ModelSpec


def pair(seed=0, rows=3, width=4):
    one, two = laws.output(rows=rows, seed=seed, width=width), laws.output(rows=rows, seed=seed + 1, width=width)
    return one.taps["hidden.0"], two.taps["hidden.0"], one.tokens


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_is_the_formula_of_the_paper(seed, width):
    """Inner products of channels over the positions, rows normalised, squared Frobenius distance / channels."""
    s, t, tokens = pair(seed, width=width)

    def matrix(x, row):
        channels = x[row][tokens[row]].detach().numpy().T
        gram = np.array([[np.dot(a, b) for b in channels] for a in channels])
        return gram / np.linalg.norm(gram, axis=1, keepdims=True)

    expected = [np.linalg.norm(matrix(s, row) - matrix(t, row), "fro") ** 2 / width for row in range(3)]
    np.testing.assert_allclose(channel_difference(s, t, tokens).detach().numpy(), expected, rtol=1e-7, atol=1e-12)


def test_laws():
    s, t, tokens = pair()

    def pure(a, b):
        return channel_difference(a, b, tokens)

    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.permutations(range(laws.LENGTH)), st.permutations(range(4)))
def test_is_free_of_scale_and_of_the_order_of_tokens_and_of_channels(seed, scale, order, channels):
    s, t, tokens = pair(seed)
    value = channel_difference(s, t, tokens)
    torch.testing.assert_close(channel_difference(scale * s, -t, tokens), value)
    torch.testing.assert_close(channel_difference(s[:, order], t[:, order], tokens[:, order]), value)
    torch.testing.assert_close(channel_difference(s[..., channels], t[..., channels], tokens), value)


@pytest.mark.parametrize("wider", [4, 6])
def test_masked_rows_and_padding_do_not_matter(wider):
    term = ICKD()
    term.build_adapters(ModelSpec({"hidden.-1": 4}), ModelSpec({"hidden.-1": wider}), 8)
    assert len(list(term.parameters())) == (0 if wider == 4 else 2)
    student, teacher = laws.output(mask=[True, False, True, True], width=4), laws.output(seed=1, width=wider)
    laws.masked_rows_do_not_matter(term.double(), student, teacher)


def test_what_cannot_be_compared_is_told():
    s, t = laws.output(), laws.output(seed=1)
    with pytest.raises(UserError, match="a vector for each of the tokens"):
        ICKD(taps={"student": "pooled", "teacher": "pooled"})(s, t, 0.0)
