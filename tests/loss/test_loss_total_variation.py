import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.loss.logit.total_variation import TotalVariation, total_variation


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.25, 20), st.integers(1, 7))
def test_is_what_one_side_has_more_of_and_a_bounded_distance(seed, temperature, classes):
    s, t = laws.pair(seed, classes)
    u = laws.output(classes=classes, seed=seed + 2).logits
    p, q = (x / temperature for x in (t, s))
    surplus = (p.softmax(-1) - q.softmax(-1)).clamp(min=0).sum(-1)
    value = total_variation(s, t, temperature)
    torch.testing.assert_close(value, temperature * surplus)
    assert (value <= temperature + 1e-9).all()
    torch.testing.assert_close(value, total_variation(t, s, temperature))
    assert (value <= total_variation(s, u, temperature) + total_variation(u, t, temperature) + 1e-9).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_laws(temperature):
    def pure(a, b):
        return total_variation(a, b, temperature)

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_reaches_its_bound_where_nothing_is_shared():
    far = 1e4 * torch.eye(3)
    torch.testing.assert_close(total_variation(far, far.roll(1, 0), 2.0), torch.full((3,), 2.0))


def test_gradient_keeps_its_scale_over_temperatures():
    s, t = laws.pair(4)
    size = [torch.autograd.grad(total_variation(s, t, T).sum(), s)[0].abs().mean() for T in (10.0, 1000.0)]
    assert 0.8 < size[0] / size[1] < 1.25


def test_the_temperature_matters():
    laws.all_differ([TotalVariation(temperature=T) for T in (1.0, 2.0, 4.0)], laws.output(seed=0), laws.output(seed=1))
