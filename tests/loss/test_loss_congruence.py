from math import exp, factorial

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.relation.congruence import Congruence, correlation, correlation_difference

ALL = torch.ones(5, dtype=torch.bool)


def pair(seed=0, rows=5):
    return laws.output(rows=rows, seed=seed).taps["pooled"], laws.output(rows=rows, seed=seed + 1, width=4).taps[
        "pooled"
    ]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 3), st.integers(1, 5), st.integers(1, 6))
def test_is_the_formula_of_the_paper(seed, gamma, order, rows):
    """1 / n^2 * || C_t - C_s ||^2 of the Taylor series, with loops."""
    s, t = pair(seed, rows)

    def kernel(x, i, j):
        a, b = x[i] / x[i].norm(), x[j] / x[j].norm()
        return sum(exp(-2 * gamma) * (2 * gamma) ** p / factorial(p) * (a @ b) ** p for p in range(order + 1))

    expected = sum((kernel(t, i, j) - kernel(s, i, j)) ** 2 for i in range(rows) for j in range(rows)) / rows**2
    value = correlation_difference(s, t, ALL[:1].expand(rows), gamma, order).mean()
    torch.testing.assert_close(value, expected)


def test_the_whole_series_is_the_gaussian_kernel():
    s, _ = pair()
    unit = s / s.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(correlation(s, 0.4, 40), (-0.4 * torch.cdist(unit, unit).square()).exp())
    errors = [(correlation(s, 0.4, order) - correlation(s, 0.4, 40)).abs().max() for order in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)


def test_laws():
    s, t = pair()

    def pure(a, b):
        return correlation_difference(a, b, ALL, 0.4, 2)

    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(5)))
def test_is_free_of_each_rows_length_of_rotation_and_of_order(seed, order):
    s, t = pair(seed)
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator))
    lengths = 10 ** (4 * torch.rand(5, 1, dtype=torch.float64, generator=generator) - 2)
    value = correlation_difference(s, t, ALL, 0.4, 2)
    torch.testing.assert_close(correlation_difference(lengths * s @ rotation, t, ALL, 0.4, 2), value)
    torch.testing.assert_close(correlation_difference(s, lengths * t, ALL, 0.4, 2), value)
    torch.testing.assert_close(correlation_difference(s[order], t[order], ALL, 0.4, 2), value[order])


@pytest.mark.parametrize("setting", [{"gamma": 1.0}, {"order": 1}])
def test_every_setting_does_something(setting):
    s, t = laws.output(), laws.output(seed=1)
    assert not torch.isclose(Congruence(**setting)(s, t, 0.0), Congruence()(s, t, 0.0))


def test_masked_rows_and_padding_do_not_matter():
    term = Congruence(taps={"student": "hidden.-1", "teacher": "pooled"})
    laws.masked_rows_do_not_matter(term, laws.output(mask=[True, False, True, True]), laws.output(seed=1, width=4))


@pytest.mark.parametrize("setting", [{"gamma": 0}, {"gamma": "wide"}, {"order": 0}, {"order": 1.5}, {"order": 999}])
def test_what_cannot_be_is_told(setting):
    with pytest.raises(UserError, match=next(iter(setting))):
        Congruence(**setting)
