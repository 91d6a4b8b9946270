import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from scipy.stats import zscore

from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.logit_standardisation import LogitStandardisation, standardise


def pure(student, teacher, temperature=2.0):
    return tempered_kl(standardise(student), standardise(teacher), temperature)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.5, 20), st.integers(2, 7))
def test_agrees_with_scipy(seed, temperature, classes):
    s, t = laws.pair(seed, classes)
    p, q = (softmax(zscore(x.detach().numpy(), axis=-1) / temperature, -1) for x in (t, s))
    expected = torch.tensor(temperature**2 * rel_entr(p, q).sum(-1))
    torch.testing.assert_close(pure(s, t, temperature).detach(), expected, atol=1e-9, rtol=1e-6)


@settings(max_examples=20)
@given(st.floats(0.01, 100), st.floats(-50, 50))
def test_is_free_of_scale_and_shift_of_either_side(scale, shift):
    s, t = laws.pair(0)
    torch.testing.assert_close(pure(scale * s + shift, t), pure(s, t))
    torch.testing.assert_close(pure(s, scale * t + shift), pure(s, t))
    torch.testing.assert_close(pure(scale * t + shift, t), torch.zeros(4, dtype=torch.float64))


def test_laws():
    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


def test_with_two_classes_only_the_sign_is_left():
    torch.testing.assert_close(standardise(torch.tensor([[0.1, 3.0], [9.0, -4.0]])), torch.tensor([[-1.0, 1], [1, -1]]))


def test_a_constant_row_is_zero_and_has_a_finite_gradient():
    row = torch.full((1, 3), 7.0, requires_grad=True)
    value = pure(row, torch.tensor([[1.0, 2.0, 4.0]]))
    (gradient,) = torch.autograd.grad(value.sum(), row)
    assert (standardise(row) == 0).all() and value.isfinite().all() and gradient.isfinite().all()


def test_the_temperature_matters():
    s, t = laws.output(seed=0), laws.output(seed=1)
    laws.all_differ([LogitStandardisation(temperature=T) for T in (1.0, 2.0, 4.0)], s, t)
    assert LogitStandardisation(temperature=2.0)(s, t, 0.0).item() == pytest.approx(
        pure(s.logits, t.logits).mean().item()
    )
