import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.loss.logit.skew_kl import skew_kl
from kdlab.loss.logit.skew_reverse_kl import skew_reverse_kl
from kdlab.loss.policy.contrastive import adaptive_skew, contrastive

BOTH = torch.tensor([True, False, True, False])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 8), st.floats(0.01, 0.9), st.floats(0, 1), st.integers(2, 6))
def test_each_text_has_the_divergence_of_its_writer(seed, temperature, skew, balance, classes):
    s, t = laws.pair(seed, classes)
    found = contrastive(s, t, BOTH, temperature, skew, balance)
    by_teacher = 2 * (1 - balance) * skew_kl(s, t, temperature, skew)
    by_student = 2 * balance * skew_reverse_kl(s, t, temperature, skew)
    torch.testing.assert_close(found, by_teacher.where(BOTH, by_student))
    one_each = torch.full((4,), skew, dtype=torch.float64)
    torch.testing.assert_close(contrastive(s, t, BOTH, temperature, one_each, balance), found)


@pytest.mark.parametrize("skew", [0.0, 0.1, torch.tensor([0.1, 0.2, 0.3, 0.05])])
def test_laws(skew):
    def pure(a, b):
        return contrastive(a, b, BOTH, 2.0, skew)

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_a_batch_of_texts_names_the_writer_once_a_text():
    s, t = (one.view(2, 2, 3) for one in laws.pair(0))
    found = contrastive(s, t, torch.tensor([[True], [False]]), 1.0, 0.1)
    torch.testing.assert_close(found[0], skew_kl(s[0], t[0], 1.0, 0.1))
    torch.testing.assert_close(found[1], skew_reverse_kl(s[1], t[1], 1.0, 0.1))


def test_a_text_of_the_teacher_is_raised_and_one_of_the_student_lowered():
    """The student writes class 0, which the teacher would not; the teacher writes class 1."""
    student = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[-4.0, 3.0, 0.0], [-4.0, 3.0, 0.0]], dtype=torch.float64)
    loss = contrastive(student, teacher, torch.tensor([True, False]), 1.0, 0.1)
    (slope,) = torch.autograd.grad(loss.sum(), student)
    assert slope[0, 1] < 0 < slope[1, 0]


def test_the_adaptive_skew_keeps_the_pull_and_its_bounds():
    gap = torch.linspace(0.185, 0.2, 5, dtype=torch.float64)
    skew = adaptive_skew(gap, reference=0.2, base=0.1, least=1e-3)
    torch.testing.assert_close((1 - skew) * gap, torch.full_like(gap, 0.9 * 0.2))
    wild = adaptive_skew(torch.tensor([-1.0, 0.0, 1e-9, 0.2, 1.0]), reference=0.2)
    assert ((wild >= 0.01) & (wild <= 0.1)).all() and not wild.requires_grad
