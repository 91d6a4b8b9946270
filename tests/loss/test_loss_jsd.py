from math import log

import laws
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax

from kdlab.error import UserError
from kdlab.loss.logit.jsd import JSD, jensen_shannon, normalised_jensen_shannon
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.reverse_kl import tempered_reverse_kl
from kdlab.schedule.linear import Linear


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.25, 20), st.floats(0.01, 0.99), st.integers(1, 7))
def test_agrees_with_the_formula_and_is_bounded(seed, temperature, beta, classes):
    s, t = laws.pair(seed, classes)
    value = jensen_shannon(s, t, temperature, beta).detach()
    p, q = (softmax(x.detach().numpy() / temperature, -1) for x in (t, s))
    m = beta * p + (1 - beta) * q
    expected = temperature**2 * (beta * rel_entr(p, m) + (1 - beta) * rel_entr(q, m)).sum(-1)
    torch.testing.assert_close(value, torch.tensor(expected), atol=1e-9, rtol=1e-6)
    assert (value <= temperature**2 * log(2)).all()
    torch.testing.assert_close(value, jensen_shannon(t, s, temperature, 1 - beta).detach(), atol=1e-9, rtol=1e-6)


def test_one_half_is_scipys():
    s, t = laws.pair(2, 5)
    p, q = (x.softmax(-1).detach().numpy() for x in (t, s))
    expected = torch.tensor(np.square(jensenshannon(p, q, axis=-1)))
    torch.testing.assert_close(jensen_shannon(s, t, 1.0, 0.5).detach(), expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_ends_are_kl_and_reverse_kl_and_the_formula_goes_there(temperature):
    s, t = laws.pair(0)
    forward, backward = tempered_kl(s, t, temperature), tempered_reverse_kl(s, t, temperature)
    torch.testing.assert_close(jensen_shannon(s, t, temperature, 0.0), forward)
    torch.testing.assert_close(jensen_shannon(s, t, temperature, 1.0), backward)
    near = 1e-6
    torch.testing.assert_close(jensen_shannon(s, t, temperature, near) / near, forward, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(jensen_shannon(s, t, temperature, 1 - near) / near, backward, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", [jensen_shannon, normalised_jensen_shannon])
@pytest.mark.parametrize("beta", [0.0, 1e-6, 0.3, 0.5, 0.7, 1 - 1e-6, 1.0])
def test_laws(form, beta):
    def pure(a, b):
        return form(a, b, 2.0, beta)

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_beta_matters_and_may_follow_a_schedule_between_the_ends():
    s, t = laws.output(seed=0), laws.output(seed=1)
    laws.all_differ([JSD(beta=beta) for beta in (0, 0.1, 0.5, 0.9, 1)], s, t)
    torch.testing.assert_close(JSD(beta=Linear(0.1, 0.9))(s, t, 0.5), JSD(beta=0.5)(s, t, 0.0))


@pytest.mark.parametrize("beta", [-0.1, 1.1, "half", Linear(0, 0.5), Linear(0.5, 1.0), Linear(0.5, 2.0), float("nan")])
def test_a_beta_that_cannot_be_is_refused(beta):
    with pytest.raises(UserError, match="beta"):
        JSD(beta=beta)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.25, 20), st.floats(0.02, 0.98), st.integers(1, 7))
def test_the_normalised_form_is_divided_by_both_shares(seed, temperature, beta, classes):
    s, t = laws.pair(seed, classes)
    expected = jensen_shannon(s, t, temperature, beta) / (beta * (1 - beta))
    torch.testing.assert_close(normalised_jensen_shannon(s, t, temperature, beta), expected, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("near", [1e-3, 1e-5, 1e-9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_normalised_form_goes_to_its_ends_without_a_jump_or_the_noise_of_rounding(near, dtype):
    s, t = (one.detach().to(dtype) for one in laws.pair(0, 7))
    forward, backward = normalised_jensen_shannon(s, t, 2.0, 0.0), normalised_jensen_shannon(s, t, 2.0, 1.0)
    assert torch.equal(forward, tempered_kl(s, t, 2.0)) and torch.equal(backward, tempered_reverse_kl(s, t, 2.0))
    for beta, end in ((near, forward), (1 - near, backward)):
        found = normalised_jensen_shannon(s, t, 2.0, beta)
        torch.testing.assert_close(found, end, rtol=5 * near, atol=1e-6)


def test_values_near_an_end_do_not_compare_with_the_end_unless_they_are_normalised():
    p, q = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.2, 0.3, 0.5]).log()

    def sweep(form):
        return [round(form(q, p, 1.0, beta).item(), 4) for beta in (0.0, 0.01, 0.5)]

    assert sweep(jensen_shannon) == [0.6349, 0.0063, 0.1514]
    assert jensen_shannon(q, p, 1.0, 1e-4).item() == pytest.approx(6.3e-5, rel=0.01)
    zero, near, middle = sweep(normalised_jensen_shannon)
    assert zero == 0.6349 and abs(near - zero) < 0.01 and abs(middle - 4 * 0.1514) < 0.001


def test_a_normalised_beta_may_follow_a_schedule_through_its_ends():
    s, t = laws.output(seed=0), laws.output(seed=1)
    term = JSD(beta=Linear(0.0, 1.0), normalise=True)
    for progress in (0.0, 0.5, 1.0):
        torch.testing.assert_close(term(s, t, progress), JSD(beta=progress, normalise=True)(s, t, 0.0))
