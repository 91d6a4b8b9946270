import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.logit.divergence import kl
from kdlab.loss.logit.reverse_kl import tempered_reverse_kl
from kdlab.loss.logit.student_top_k import StudentTopK, student_top_k_reverse_kl


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.5, 1.0, 4.0]), st.integers(2, 9))
def test_is_between_zero_and_the_whole_and_grows_with_k(seed, temperature, classes):
    s, t = laws.pair(seed, classes)
    whole = tempered_reverse_kl(s, t, temperature)
    values = torch.stack([student_top_k_reverse_kl(s, t, temperature, k) for k in range(1, classes + 3)])
    assert (values >= -1e-9).all() and (values <= whole + 1e-9).all() and (values.diff(dim=0) >= -1e-9).all()
    for value in values[-4:]:
        torch.testing.assert_close(value, whole)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_laws(k):
    def pure(a, b):
        return student_top_k_reverse_kl(a, b, 2.0, k)

    s, t = laws.pair(0, 4)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def truncated(student, teacher, k):
    index = student.detach().topk(k).indices
    return kl(student.log_softmax(-1)[index], teacher.log_softmax(-1)[index])


def mass(loss, k=5, classes=200, steps=400):
    """After gradient steps: the student's mass on its k likeliest classes, the teacher's on its own, and reverse KL."""
    generator = torch.Generator().manual_seed(0)
    teacher = 3 * torch.randn(classes, generator=generator)
    student = (teacher + 0.3 * torch.randn(classes, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([student], 0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(student, teacher, k).backward()
        optimizer.step()
    own = [one.softmax(-1).topk(k).values.sum().item() for one in (student, teacher)]
    return *own, tempered_reverse_kl(student, teacher, 1.0).item()


def test_the_students_mass_does_not_leave_its_likeliest_classes():
    own, teachers, whole = mass(truncated)
    assert own < 0.5 * teachers and whole > 0.3
    own, teachers, whole = mass(lambda s, t, k: student_top_k_reverse_kl(s, t, 1.0, k))
    assert abs(own - teachers) < 0.02 and whole < 0.1


def test_k_matters_and_is_one_or_more():
    s, t = laws.output(seed=0, classes=8), laws.output(seed=1, classes=8)
    laws.all_differ([StudentTopK(k=k) for k in (1, 2, 4)], s, t)
    with pytest.raises(UserError, match="k is 0"):
        StudentTopK(k=0)
