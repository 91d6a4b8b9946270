from dataclasses import replace

import laws
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.logit.teacher_bounded import TeacherBounded, teacher_bounded
from kdlab.output import Output

value = st.floats(-100, 100)
LABEL = torch.tensor([-0.5, 0.1, 2.0, -3.0], dtype=torch.float64)


@given(value, value, value, st.floats(0, 10))
def test_is_the_squared_error_where_the_student_is_not_better(s, t, y, margin):
    ours, theirs = (s - y) * (s - y), (t - y) * (t - y)  # Python's ** 2 may round otherwise than torch does
    expected = ours if ours + margin > theirs else 0.0
    one, two, true = (torch.tensor([x], dtype=torch.float64) for x in (s, t, y))
    assert teacher_bounded(one[None], two[None], true, margin).item() == expected


def test_a_better_student_is_left_alone_and_another_goes_to_the_truth():
    s = torch.tensor([[1.1], [3.0]], requires_grad=True)
    values = teacher_bounded(s, torch.tensor([[2.0], [2.0]]), torch.ones(2), 0.0)
    torch.testing.assert_close(values, torch.tensor([0.0, 4.0]))
    torch.testing.assert_close(torch.autograd.grad(values.sum(), s)[0], torch.tensor([[0.0], [4.0]]))


def test_laws():
    def pure(a, b):
        return teacher_bounded(a, b, LABEL.to(torch.promote_types(a.dtype, torch.float32)), 0.1)

    s, t = laws.pair(0, 1)
    assert (pure(s, t) >= 0).all() and pure(s, t).sum() > 0
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    perfect = LABEL[:, None].clone().requires_grad_()
    assert (pure(perfect, t) == 0).all()


def test_rows_without_a_label_learn_the_teachers_number():
    s, t = laws.output(classes=1, seed=0), laws.output(classes=1, seed=1)
    squares = (s.logits - t.logits).square().squeeze(-1)
    nan = torch.full((4,), torch.nan)
    for label in (None, nan):
        torch.testing.assert_close(TeacherBounded()(replace(s, label=label), t, 0.0), squares.mean())
    some = replace(s, label=torch.cat([LABEL[:2], nan[2:].double()]))
    assert some.labelled.tolist() == [True, True, False, False]
    known = teacher_bounded(s.logits, t.logits, LABEL, 0.0)[:2]
    value = TeacherBounded()(some, t, 0.0)
    torch.testing.assert_close(value, torch.cat([known, squares[2:]]).mean())
    assert torch.autograd.grad(value, s.logits)[0].isfinite().all()


def test_real_numbers_below_0_are_labels_too():
    mask = torch.tensor([True, True, False])
    out = Output(torch.zeros(3, 1), mask, label=torch.tensor([-2.5, torch.nan, 1.0]))
    assert out.labelled.tolist() == [True, False, False]


def test_the_margin_matters():
    logits = torch.tensor([[1.1], [3.0]], requires_grad=True)
    s = Output(logits, torch.ones(2, dtype=torch.bool), label=torch.ones(2))
    t = replace(s, logits=torch.tensor([[2.0], [2.0]]))
    laws.all_differ([TeacherBounded(margin=margin) for margin in (0.0, 1.0)], s, t)
    with pytest.raises(UserError, match="margin"):
        TeacherBounded(margin=-1)
