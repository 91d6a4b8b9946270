import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.loss.logit.confidence_kl import ConfidenceKL, confidence
from kdlab.loss.logit.kl import tempered_kl


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.5, 20), st.integers(2, 7))
def test_is_kl_times_the_teachers_largest_probability(seed, temperature, classes):
    s, t = laws.output(4, classes, seed), laws.output(4, classes, seed + 1)
    expected = 0.0
    for row in range(4):
        likely = max(t.logits[row].exp().tolist()) / t.logits[row].exp().sum().item()
        expected += likely * tempered_kl(s.logits[row], t.logits[row], temperature).item() / 4
    assert ConfidenceKL(temperature=temperature)(s, t, 0.0).item() == pytest.approx(expected, abs=1e-9)


def test_a_teacher_that_does_not_know_counts_least_and_the_weight_has_no_gradient():
    t = torch.stack([torch.zeros(4), 50 * torch.eye(4)[1]]).requires_grad_()
    assert not confidence(t).requires_grad
    torch.testing.assert_close(confidence(t), torch.tensor([0.25, 1.0]))


def test_laws():
    s, t = laws.pair(0)
    fixed = confidence(t)

    def pure(a, b):
        return confidence(b) * tempered_kl(a, b, 2.0)

    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)
    laws.gradient_is_right(lambda a, b: fixed * tempered_kl(a, b, 2.0), s, t)
    torch.testing.assert_close(
        *(torch.autograd.grad(x.sum(), s)[0] for x in (pure(s, t), fixed * tempered_kl(s, t, 2.0)))
    )


def test_the_temperature_matters():
    laws.all_differ([ConfidenceKL(temperature=T) for T in (1.0, 2.0, 4.0)], laws.output(seed=0), laws.output(seed=1))
