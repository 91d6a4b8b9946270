from math import cos, exp, pi

import laws
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.logit.ctkd import CTKD, curriculum, kl_at, reversed_gradient
from kdlab.loss.logit.kl import tempered_kl


def test_is_kl_at_the_learned_temperature():
    s, t = laws.output(seed=0), laws.output(seed=1)
    temperature = 1 + 20 / (1 + exp(-1))
    torch.testing.assert_close(
        CTKD()(s, t, 0.5), tempered_kl(s.logits, t.logits, temperature).mean(), rtol=1e-6, atol=0
    )
    other = CTKD(low=2.0, span=3.0)
    temperature = 2 + 3 / (1 + exp(-1))
    torch.testing.assert_close(other(s, t, 0.5), tempered_kl(s.logits, t.logits, temperature).mean(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("progress", "strength"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)])
def test_the_temperature_gets_the_reversed_gradient_and_the_student_its_own(progress, strength):
    s, t, term = laws.output(seed=0), laws.output(seed=1), CTKD(rise=0.5).double()
    reversed_slope, own = torch.autograd.grad(term(s, t, progress), [term.value, s.logits])

    def value(x):
        return kl_at(s.logits, t.logits, 1 + 20 * x.sigmoid()).mean()

    slope, plain = torch.autograd.grad(value(term.value), [term.value, s.logits])
    assert slope.abs() > 1e-6
    torch.testing.assert_close(reversed_slope, -strength * slope)
    torch.testing.assert_close(own, plain)


def test_a_step_on_the_temperature_makes_the_loss_larger():
    s, t, term = laws.output(seed=0), laws.output(seed=1), CTKD().double()
    optimizer = torch.optim.SGD(term.parameters(), lr=1.0)
    before = term(s, t, 1.0)
    before.backward()
    optimizer.step()
    assert term(s, t, 1.0) > before
    assert [name for name, _ in term.named_parameters()] == ["value"]


@given(st.floats(0, 1), st.floats(0.001, 1))
def test_the_curriculum_is_the_papers(progress, rise):
    loops = min(progress / rise, 1)
    assert curriculum(progress, rise) == pytest.approx((1 + cos((1 + loops) * pi)) / 2, abs=1e-9)
    assert curriculum(progress, 0.0) == 1


def test_reversal_keeps_the_value():
    x = torch.randn(5, requires_grad=True)
    assert torch.equal(reversed_gradient(x, 0.3), x)
    (gradient,) = torch.autograd.grad((reversed_gradient(x, 0.3) * torch.arange(5)).sum(), x)
    torch.testing.assert_close(gradient, -0.3 * torch.arange(5))


def test_laws():
    temperature = torch.tensor([1.0, 2.0, 5.0, 20.0], dtype=torch.float64)

    def pure(a, b):
        return kl_at(a, b, temperature.to(a.dtype) if a.dtype == torch.float64 else temperature.float())

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)
    for row, own in enumerate(temperature.tolist()):
        torch.testing.assert_close(pure(s, t)[row], tempered_kl(s[row], t[row], own))


def test_settings_matter_and_impossible_ones_are_told():
    s, t = laws.output(seed=0), laws.output(seed=1)
    laws.all_differ([CTKD(low=low, span=span) for low in (0.5, 1) for span in (1, 20)], s, t)
    for wrong in ({"low": 0.0}, {"span": -1.0}, {"rise": 1.5}, {"rise": "soon"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            CTKD(**wrong)
