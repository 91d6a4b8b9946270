from math import exp

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layered import features, ready, rows, tokens

from kdlab.error import UserError
from kdlab.loss.feature.nst import KERNELS, NST, mmd


def written_out(own, goal, kernel):
    """Equation 5 with loops over the features of one row."""
    s, t = ([f / f.norm() for f in side.T] for side in (own.detach(), goal.detach()))
    width = max(
        torch.finfo(torch.float64).eps, sum((x - y).square().sum().item() for x in s for y in t) / len(s) / len(t)
    )

    def k(x, y):
        if kernel == "gaussian":
            return exp(-(x - y).square().sum().item() / 2 / width)
        return (x @ y).item() ** {"linear": 1, "poly": 2}[kernel]

    def mean(a, b):
        return sum(k(x, y) for x in a for y in b) / len(a) / len(b)

    return mean(t, t) + mean(s, s) - 2 * mean(s, t)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(sorted(KERNELS)), st.integers(1, 4), st.integers(2, 5))
def test_is_the_formula_of_the_paper(seed, kernel, width, wider):
    term, s, t = ready(NST(kernel=kernel), width, wider, seed)
    values = [written_out(*both, kernel) for both in zip(rows(s, "hidden.1"), rows(t, "hidden.3"), strict=True)]
    assert term(s, t, 0.0).item() == pytest.approx(sum(values) / 4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_laws(kernel):
    def pure(s, t):
        return mmd(s, t, tokens(), kernel)

    s, t = features(0), features(1, width=3)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), order=st.permutations(range(6)))
def test_is_free_of_the_order_and_the_scale_of_the_features(kernel, seed, order):
    s, t = features(seed), features(seed + 1, width=4)
    value = mmd(s, t, tokens(), kernel)
    scale = torch.rand(6, dtype=torch.float64) + 0.1
    torch.testing.assert_close(mmd(s[..., order] * scale, t, tokens(), kernel), value)
    torch.testing.assert_close(mmd(torch.cat([s, s], -1), t, tokens(), kernel), value)


def test_kernels_differ_and_nothing_is_learned():
    seen = []
    for kernel in KERNELS:
        term, s, t = ready(NST(kernel=kernel))
        value = term(s, t, 0.0)
        seen.append((round(value.item(), 9), round(laws.gradients(value, s)["hidden.1"].norm().item(), 9)))
        assert not list(term.parameters())
    assert len({v for v, _ in seen}) == len({g for _, g in seen}) == 3
    with pytest.raises(UserError, match="linear, poly, gaussian"):
        NST(kernel="cubic")
