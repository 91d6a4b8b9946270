import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.reverse_kl import ReverseKL, tempered_reverse_kl


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.25, 20), st.integers(1, 7))
def test_agrees_with_scipy_and_is_kl_with_the_sides_swapped(seed, temperature, classes):
    s, t = laws.pair(seed, classes)
    value = tempered_reverse_kl(s, t, temperature)
    p, q = (softmax(x.detach().numpy() / temperature, -1) for x in (t, s))
    torch.testing.assert_close(
        value.detach(), torch.tensor(temperature**2 * rel_entr(q, p).sum(-1)), atol=1e-9, rtol=1e-6
    )
    torch.testing.assert_close(value, tempered_kl(t, s, temperature))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_laws(temperature):
    def pure(a, b):
        return tempered_reverse_kl(a, b, temperature)

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_seeks_a_mode_where_kl_covers_both():
    """Of all students with one peak, which is the best for a teacher with two, and how wide is it?"""
    grid = torch.linspace(-6, 6, 121, dtype=torch.float64)
    teacher = torch.logaddexp(-((grid - 3) ** 2) / 0.5, -((grid + 3) ** 2) / 0.5)
    students = torch.cartesian_prod(torch.linspace(-4, 4, 17), torch.linspace(0.25, 4, 16)).double()
    logits = -((grid - students[:, :1]) ** 2) / (2 * students[:, 1:] ** 2)
    place, width = students[tempered_reverse_kl(logits, teacher, 1.0).argmin()].tolist()
    assert (abs(place), width) == (3.0, 0.5)
    place, width = students[tempered_kl(logits, teacher, 1.0).argmin()].tolist()
    assert place == 0.0 and width >= 3


def test_the_temperature_matters():
    laws.all_differ([ReverseKL(temperature=T) for T in (1.0, 2.0, 4.0)], laws.output(seed=0), laws.output(seed=1))
