import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.soft_ce import SoftCE, soft_cross_entropy


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.25, 20), st.integers(1, 7))
def test_is_kl_plus_the_entropy_of_the_teacher(seed, temperature, classes):
    s, t = laws.pair(seed, classes)
    p, q = (softmax(x.detach().numpy() / temperature, -1) for x in (t, s))
    expected = temperature**2 * (entropy(p, axis=-1) + entropy(p, q, axis=-1))
    torch.testing.assert_close(
        soft_cross_entropy(s, t, temperature).detach(), torch.tensor(expected), atol=1e-9, rtol=1e-6
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_is_least_where_both_agree_and_has_the_gradient_of_kl(temperature):
    s, t = laws.pair(0)
    p = (t / temperature).softmax(-1)
    least = -(temperature**2) * (p * p.log()).sum(-1)
    torch.testing.assert_close(soft_cross_entropy(t, t, temperature), least)
    assert (soft_cross_entropy(s, t, temperature) > least).all()
    slopes = [torch.autograd.grad(pure(s, t, temperature).sum(), s)[0] for pure in (soft_cross_entropy, tempered_kl)]
    torch.testing.assert_close(*slopes)


def test_laws():
    def pure(a, b):
        return soft_cross_entropy(a, b, 2.0)

    s, t = laws.pair(1)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_the_temperature_matters():
    laws.all_differ([SoftCE(temperature=T) for T in (1.0, 2.0, 4.0)], laws.output(seed=0), laws.output(seed=1))
