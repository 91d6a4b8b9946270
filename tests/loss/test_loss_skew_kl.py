from math import log

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from kdlab.error import UserError
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.skew_kl import SkewKL, skew_kl
from kdlab.schedule.linear import Linear


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.25, 20), st.floats(0.01, 0.9), st.integers(1, 7))
def test_agrees_with_scipy(seed, temperature, skew, classes):
    s, t = laws.pair(seed, classes)
    p, q = (softmax(x.detach().numpy() / temperature, -1) for x in (t, s))
    expected = temperature**2 * rel_entr(p, skew * p + (1 - skew) * q).sum(-1)
    torch.testing.assert_close(skew_kl(s, t, temperature, skew).detach(), torch.tensor(expected), atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("skew", [0.0, 0.1, 0.9])
def test_laws(skew):
    def pure(a, b):
        return skew_kl(a, b, 2.0, skew)

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_without_skew_it_is_the_plain_divergence_and_with_skew_it_is_bounded():
    s, t = laws.pair(0)
    torch.testing.assert_close(skew_kl(s, t, 2.0, 0.0), tempered_kl(s, t, 2.0))
    far = 1e4 * torch.eye(3, dtype=torch.float64)
    worst = skew_kl(far, far.roll(1, 0), 1.0, 0.1)
    torch.testing.assert_close(worst, torch.full_like(worst, -log(0.1)))
    assert (tempered_kl(far, far.roll(1, 0), 1.0) > 9e3).all()


def test_skew_and_temperature_matter_and_may_be_scheduled():
    s, t = laws.output(seed=0), laws.output(seed=1)
    laws.all_differ([SkewKL(temperature=T, skew=skew) for T in (1, 2) for skew in (0, 0.1, 0.5)], s, t)
    torch.testing.assert_close(SkewKL(skew=Linear(0, 0.8))(s, t, 0.5), SkewKL(skew=0.4)(s, t, 0.0))


@pytest.mark.parametrize("skew", [-0.1, 1.0, "some", Linear(0, 1), None])
def test_a_skew_that_cannot_be_is_told(skew):
    with pytest.raises(UserError, match="skew"):
        SkewKL(skew=skew)
