import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from kdlab.error import UserError
from kdlab.loss.logit.kl import KL, tempered_kl
from kdlab.schedule.linear import Linear

seeds = st.integers(0, 10_000)
temperatures = st.floats(0.25, 20)


def pair(seed, classes=3):
    return laws.output(seed=seed, classes=classes).logits, laws.output(seed=seed + 1, classes=classes).logits


@settings(max_examples=20, deadline=None)
@given(seeds, temperatures, st.integers(1, 7))
def test_agrees_with_scipy_and_is_never_negative(seed, temperature, classes):
    s, t = pair(seed, classes)
    value = tempered_kl(s, t, temperature)
    p, q = softmax(t.detach().numpy() / temperature, -1), softmax(s.detach().numpy() / temperature, -1)
    torch.testing.assert_close(
        value.detach(), torch.tensor(temperature**2 * rel_entr(p, q).sum(-1)), atol=1e-10, rtol=1e-6
    )
    if classes > 1:
        laws.never_negative(lambda a, b: tempered_kl(a, b, temperature), s, t)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_laws(temperature):
    def pure(a, b):
        return tempered_kl(a, b, temperature)

    s, t = pair(0)
    laws.zero_at_equality(pure, s)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


def test_direction_is_teacher_to_student():
    sure, unsure = torch.tensor([5.0, 0.0]), torch.tensor([0.0, 0.0])
    p = sure.softmax(-1)
    torch.testing.assert_close(tempered_kl(unsure, sure, 1.0), (p * p.log()).sum() + torch.tensor(2.0).log())


def test_infinite_temperature_is_half_the_mean_squared_difference_of_centred_logits():
    s, t = pair(3, classes=5)
    centred = (s - s.mean(-1, keepdim=True)) - (t - t.mean(-1, keepdim=True))
    torch.testing.assert_close(tempered_kl(s, t, 1e4), centred.square().mean(-1) / 2, rtol=1e-3, atol=1e-6)


def test_gradient_keeps_its_scale_over_temperatures():
    s, t = pair(4)
    size = [torch.autograd.grad(tempered_kl(s, t, T).sum(), s)[0].abs().mean() for T in (10.0, 1000.0)]
    assert 0.8 < size[0] / size[1] < 1.25


def test_term_reduces_over_the_rows_that_count():
    s, t = laws.output(seed=0, mask=[True, False, True, True]), laws.output(seed=1)
    expected = tempered_kl(s.logits, t.logits, 2.0)[s.mask].mean()
    torch.testing.assert_close(KL(temperature=2.0)(s, t, 0.0), expected)
    laws.masked_rows_do_not_matter(KL(temperature=2.0), s, t)


def test_temperature_follows_its_schedule():
    s, t, term = laws.output(seed=0), laws.output(seed=1), KL(temperature=Linear(8.0, 1.0))
    torch.testing.assert_close(term(s, t, 1.0), KL(temperature=1.0)(s, t, 0.0))
    torch.testing.assert_close(term(s, t, 0.0), KL(temperature=8.0)(s, t, 0.0))


def test_what_cannot_be_compared_is_told():
    with pytest.raises(UserError, match="labels"):
        KL()(laws.output(classes=3), laws.output(classes=4), 0.0)
    for temperature in (0, -1.0, "warm", Linear(1.0, 0.0), float("nan"), None):
        with pytest.raises(UserError, match="temperature"):
            KL(temperature=temperature)
