"""Laws of learning from the teacher's decisions."""

import laws
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.logit.pseudo_label import PseudoLabel, pseudo_label

SHAPES = {"rows": st.integers(1, 6), "classes": st.integers(2, 5), "seed": st.integers(0, 99)}


@given(**SHAPES, threshold=st.floats(0, 1))
def test_it_is_the_cross_entropy_of_certain_decisions_written_out(rows, classes, seed, threshold):
    student, teacher = (laws.output(rows, classes, seed + side).logits for side in (0, 1))
    values = pseudo_label(student, teacher, threshold)
    for row in range(rows):
        p = torch.exp(teacher[row]) / torch.exp(teacher[row]).sum()
        q = torch.exp(student[row]) / torch.exp(student[row]).sum()
        expected = -torch.log(q[int(p.argmax())]) if float(p.max()) >= threshold else torch.zeros(())
        torch.testing.assert_close(values[row], expected.double())


@given(**SHAPES)
def test_the_gradient_is_right_and_extremes_are_finite(rows, classes, seed):
    student, teacher = (laws.output(rows, classes, seed + side).logits for side in (0, 1))
    assert torch.autograd.gradcheck(lambda own: pseudo_label(own, teacher.detach(), 0.0), (student,), atol=1e-6)
    laws.stays_finite(lambda own, goal: pseudo_label(own, goal, 0.0), student, teacher)


def test_rows_with_a_label_count_as_much_as_they_are_told():
    student, teacher = laws.output(4), laws.output(4, seed=1)
    student.label[:2] = -1
    alone, all_rows = (PseudoLabel(labelled=labelled)(student, teacher, 0.0) for labelled in (0.0, 1.0))
    values = pseudo_label(student.logits, teacher.logits, 0.0)
    torch.testing.assert_close(alone, values[:2].sum() / 4)
    torch.testing.assert_close(all_rows, values.mean())
    gradient = laws.gradients(alone, student)["logits"]
    assert (gradient[2:] == 0).all() and (gradient[:2] != 0).any()


def test_a_threshold_out_of_range_is_refused():
    with pytest.raises(UserError, match=r"threshold is 1.5, but is a probability"):
        PseudoLabel(threshold=1.5)
    with pytest.raises(UserError, match="labelled is -1"):
        PseudoLabel(labelled=-1.0)
