"""Laws of the queue and of the distributions over it."""

import copy

import laws
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from torch.nn.functional import normalize

from kdlab.error import UserError
from kdlab.loss.relation.seed import Seed, similarity_cross_entropy
from kdlab.loss.term import ModelSpec


def vectors(count, width, seed):
    return normalize(
        torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1
    )


@given(rows=st.integers(1, 5), width=st.integers(2, 6), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_it_is_the_papers_formula_written_out(rows, width, size, seed):
    """Fang et al. 2021, section 3.2: the teacher's own vector joins the queue."""
    student, teacher, queue = (vectors(count, width, seed + i) for i, count in enumerate((rows, rows, size)))
    values = similarity_cross_entropy(student, teacher, queue, 0.2, 0.07)
    for row in range(rows):
        against = np.concatenate([teacher[row : row + 1].numpy(), queue.numpy()])
        p = softmax(against @ teacher[row].numpy() / 0.07)
        expected = -(p * log_softmax(against @ student[row].numpy() / 0.2)).sum()
        np.testing.assert_allclose(values[row], expected, rtol=1e-9)


@given(seed=st.integers(0, 99))
def test_the_least_value_is_the_teachers_entropy_and_is_reached_by_a_copy(seed):
    student, teacher, queue = (vectors(count, 4, seed + i) for i, count in enumerate((3, 3, 8)))
    copied = similarity_cross_entropy(teacher, teacher, queue, 0.1, 0.1)
    assert (similarity_cross_entropy(student, teacher, queue, 0.1, 0.1) >= copied - 1e-9).all()
    assert torch.autograd.gradcheck(
        lambda own: similarity_cross_entropy(own, teacher, queue, 0.2, 0.1), (student.requires_grad_(),)
    )


@given(seed=st.integers(0, 99))
def test_a_rotation_of_all_vectors_changes_nothing(seed):
    student, teacher, queue = (vectors(count, 4, seed + i) for i, count in enumerate((3, 3, 8)))
    turn = torch.linalg.qr(vectors(4, 4, seed + 7))[0]
    torch.testing.assert_close(
        similarity_cross_entropy(student @ turn, teacher @ turn, queue @ turn, 0.2, 0.1),
        similarity_cross_entropy(student, teacher, queue, 0.2, 0.1),
    )


def made(size=6, **how):
    torch.manual_seed(0)
    term = Seed(size=size, **how)
    term.build_adapters(ModelSpec({"pooled": 6}), ModelSpec({"pooled": 6}), rows=10)
    return term.double()


def test_the_queue_takes_in_batches_after_their_use_oldest_first():
    term, teacher = made(), laws.output(4, seed=1)
    student, start = laws.output(4), term.queue.clone()
    first = term(student, teacher, 0.0)
    goal = normalize(teacher.taps["pooled"].detach(), dim=-1)
    torch.testing.assert_close(term.queue, torch.cat([goal, start[4:]]))
    assert first.isfinite() and int(term.next) == 4
    term(student, teacher, 0.0)
    torch.testing.assert_close(term.queue, torch.cat([goal[2:], goal[2:], goal[:2]]))
    first.backward()  # what was taken in meanwhile leaves the graph alone


def test_nothing_is_taken_in_outside_of_training_nor_of_rows_that_do_not_count():
    student, teacher = laws.output(4, mask=[True, False, True, True]), laws.output(4, seed=1)
    term = made()
    start = term.queue.clone()
    term.eval()(student, teacher, 0.0)
    with torch.no_grad():
        term.train()(student, teacher, 0.0)
    assert torch.equal(term.queue, start)
    term(student, teacher, 0.0)
    assert torch.equal(term.queue[1], start[1]) and not torch.equal(term.queue[0], start[0])


def test_a_batch_larger_than_the_queue_leaves_its_newest():
    term, teacher = made(size=3), laws.output(5, seed=1)
    term(laws.output(5), teacher, 0.0)
    torch.testing.assert_close(term.queue, normalize(teacher.taps["pooled"].detach(), dim=-1)[2:])


def test_the_queue_is_in_the_state_and_goes_on_where_it_was():
    one, student, teacher = made(), laws.output(4), laws.output(4, seed=1)
    one(student, teacher, 0.0)
    two = made()
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    assert torch.equal(one(student, teacher, 0.0), two(student, teacher, 0.0)) and torch.equal(one.queue, two.queue)


@pytest.mark.parametrize("name", ["student_temperature", "teacher_temperature"])
def test_each_temperature_matters_and_zero_is_refused(name):
    student, teacher = laws.output(4), laws.output(4, seed=1)
    assert made()(student, teacher, 0.0) != made(**{name: 0.5})(student, teacher, 0.0)
    with pytest.raises(UserError, match=name):
        Seed(**{name: 0.0})
    with pytest.raises(UserError, match="size is 0"):
        Seed(size=0)
