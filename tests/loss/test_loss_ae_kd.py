import laws
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from kdlab.error import UserError
from kdlab.loss.logit.ae_kd import AEKD, STEPS, gradients, min_norm
from kdlab.loss.logit.kl import KL, tempered_kl

NAMES = ("logits.a", "logits.b", "logits.c")


def outputs(names=NAMES, seed=0, **kind):
    return laws.output(seed=seed, **kind), laws.output(seed=seed + 1, taps=names)


def vectors(seed, count, size=4):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "left"), [(STEPS, 2e-3), (2000, 1e-5)])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6), st.floats(0.3, 1))
def test_is_nearly_as_short_as_scipy_can_make_it(steps, left, seed, count, limit):
    """What the usual number of steps leaves is below 0.2% of the vectors' mean squared length."""
    limit = max(limit, 1 / count)
    g = vectors(seed, count)
    weight = min_norm(g, limit, steps)
    assert (weight >= 0).all() and (weight <= limit + 1e-12).all()
    torch.testing.assert_close(weight.sum(), torch.tensor(1.0, dtype=torch.float64))
    found = minimize(
        lambda a: np.square(a @ g.numpy()).sum(), np.full(count, 1 / count), method="SLSQP",
        bounds=[(0, limit)] * count, constraints={"type": "eq", "fun": lambda a: a.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert (weight @ g).square().sum() <= found.fun + left * g.square().sum(-1).mean()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 1))
def test_for_two_it_is_the_closed_form(seed, limit):
    a, b = vectors(seed, 2)
    share = (((b - a) @ b) / (a - b).square().sum()).clamp(1 - limit, limit)
    torch.testing.assert_close(min_norm(torch.stack([a, b]), limit), torch.stack([share, 1 - share]))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 5))
def test_no_teacher_objects_to_the_step(seed, count):
    """The law of multiple-gradient descent: d * g_m >= |d|^2 for each m, up to what the solver leaves."""
    g = vectors(seed, count, size=6)
    step = min_norm(g) @ g
    assert (g @ step >= step.square().sum() - 2e-3 * g.square().sum(-1).mean()).all()


def test_equal_and_zero_gradients_are_harmless():
    torch.testing.assert_close(min_norm(torch.ones(3, 2)), torch.full((3,), 1 / 3))
    torch.testing.assert_close(min_norm(torch.zeros(2, 2)), torch.full((2,), 1 / 2))


def test_the_gradients_are_those_of_the_divergences():
    s, t = outputs(mask=[True, False, True, True])
    members = torch.stack([t.taps[name] for name in NAMES])
    found = []
    for one in members:
        (each,) = torch.autograd.grad(tempered_kl(s.logits, one, 3.0)[s.mask].sum(), s.logits)
        found.append(each.sum(0) / 3)
    torch.testing.assert_close(gradients(s.logits, members, 3.0, s.mask), torch.stack(found))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.floats(0.4, 1))
def test_is_the_sum_of_the_divergences_with_weights_that_do_not_learn(seed, limit):
    s, t = outputs(seed=seed)
    weight = min_norm(gradients(s.logits, torch.stack([t.taps[name] for name in NAMES]), 2.0, s.mask), limit).detach()
    each = [KL(temperature=2.0)(s, laws.replace(t, logits=t.taps[name]), 0.0) for name in NAMES]
    expected = sum(w * value for w, value in zip(weight, each, strict=True))
    value = AEKD(temperature=2.0, limit=limit)(s, t, 0.0)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(laws.gradients(value, s)["logits"], laws.gradients(expected, s)["logits"])


def test_a_small_limit_is_the_mean_and_the_limit_does_something():
    s, t = outputs()
    each = [KL()(s, laws.replace(t, logits=t.taps[name]), 0.0) for name in NAMES]
    torch.testing.assert_close(AEKD(limit=0.01)(s, t, 0.0), sum(each) / 3)
    assert not torch.isclose(AEKD(limit=1.0)(s, t, 0.0), sum(each) / 3)


def test_is_zero_where_all_agree_with_the_student():
    s, t = outputs()
    t.taps.update(dict.fromkeys(NAMES, s.logits.detach()))
    value = AEKD()(s, t, 0.0)
    torch.testing.assert_close(value, torch.zeros_like(value))


def test_masked_rows_do_not_matter():
    s, t = outputs(mask=[True, False, True, True])
    laws.masked_rows_do_not_matter(AEKD(), s, t)


@pytest.mark.parametrize("limit", [0, 1.5, "some"])
def test_what_cannot_be_is_told(limit):
    with pytest.raises(UserError, match="limit"):
        AEKD(limit=limit)
