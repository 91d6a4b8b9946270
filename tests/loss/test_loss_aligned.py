"""Terms for a teacher with other tokens: of the same tokens they are the plain ones, of others what loops give."""

from dataclasses import replace

import laws
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.alignment import NO_TEXT, Alignment
from kdlab.error import UserError
from kdlab.loss.logit.aligned import Merged, merged
from kdlab.loss.logit.gold import Gold, matched, unmatched
from kdlab.loss.logit.jsd import jensen_shannon
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.uld import ULD, sorted_distance
from kdlab.output import Output

STUDENT = [np.array([NO_TEXT, 1, 2, 4, 6, 7]), np.array([NO_TEXT, 2, 3, 5])]
TEACHER = [np.array([NO_TEXT, 2, 3, 4, 7]), np.array([2, 5, 6, 7, 8])]
PAIRS = torch.tensor([[0, 2, 5], [1, 3, 0]])
GROUPS = [  # of positions of student and teacher: row, positions
    ((0, [0, 1]), (0, [0])),
    ((0, [2]), (0, [1, 2])),
    ((0, [3, 4]), (0, [3])),
    ((1, [1, 2]), (1, [0])),
]


def outputs(seed=0, dtype=torch.float64, scale=1.0):
    """Both models' outputs on two texts: 6 and 5 tokens of padded length, 7 and 5 classes."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for ends, classes in ((STUDENT, 7), (TEACHER, 5)):
        length = max(map(len, ends))
        logits = scale * torch.randn(2, length, classes, generator=generator, dtype=torch.float64)
        mask = torch.zeros(2, length, dtype=torch.bool)
        for row, one in enumerate(ends):
            mask[row, : len(one) - 1] = True
        label = torch.randint(0, classes, (2, length), generator=generator).where(mask, -1)
        found.append(Output(logits.to(dtype).requires_grad_(), mask, tokens=mask, label=label))
    student, teacher = found
    return student, replace(teacher, alignment=Alignment.of(STUDENT, TEACHER, PAIRS))


def by_loops(student, teacher, temperature, value):
    """The sum over groups of a function of both merged predictions, over the number of the student's positions."""
    total = 0.0
    for sides in GROUPS:
        both = []
        for output, (row, positions) in zip((student, teacher), sides, strict=True):
            log_p = (output.logits[row] / temperature).log_softmax(-1)
            rest = sum((log_p[p, output.label[row, p]] for p in positions[1:]), torch.zeros((), dtype=log_p.dtype))
            both.append((log_p[positions[0]] + rest).exp())
        total = total + value(*both)
    return total / student.mask.sum()


def hybrid(s, t, beta, w, u):
    (ours, theirs), divergence = PAIRS, 0.0
    p, q = (torch.cat([one[index], 1 - one[index].sum()[None]]) for one, index in ((t, theirs), (s, ours)))
    m = beta * p + (1 - beta) * q
    divergence = (beta * p * (p / m).log() + (1 - beta) * q * (q / m).log()).sum()
    others = sorted_distance(s[[i for i in range(7) if i not in ours]], t[[i for i in range(5) if i not in theirs]])
    return w * divergence + u * others


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_terms_are_what_loops_over_pieces_give(temperature):
    student, teacher = outputs()
    wanted = by_loops(student, teacher, temperature, sorted_distance)
    torch.testing.assert_close(ULD(temperature=temperature)(student, teacher, 0.0), wanted)
    for weights, (w, u) in (((None, None), (3 / 5, 2 / 5)), ((1.0, 0.25), (1.0, 0.25))):
        wanted = by_loops(student, teacher, temperature, lambda s, t, w=w, u=u: hybrid(s, t, 0.3, w, u))
        term = Gold(1.0, temperature, 0.3, *weights)
        torch.testing.assert_close(term(student, teacher, 0.0), wanted)


def test_the_worked_example_of_merging():
    logits = torch.tensor([[0.6, 0.3, 0.1], [0.05, 0.9, 0.05]], dtype=torch.float64).log()
    found = merged(logits, torch.tensor([0, 1]), torch.tensor([0, 0]), 1).probabilities
    torch.testing.assert_close(found, torch.tensor([[0.54, 0.27, 0.09]], dtype=torch.float64))
    assert found.sum().item() == pytest.approx(0.9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(0, 1))
def test_of_the_same_tokens_gold_is_the_plain_divergence_with_or_without_an_alignment(seed, classes, beta):
    s, t = (one.view(1, 4, classes) for one in laws.pair(seed, classes))
    mask = torch.tensor([[True, True, True, False]])
    label = torch.tensor([[0, 1, 0, -1]])
    student, teacher = (Output(one, mask, tokens=mask, label=label) for one in (s, t))
    ends = [np.array([NO_TEXT, 1, 2, 3])]
    every = torch.arange(classes).expand(2, -1)
    aligned = replace(teacher, alignment=Alignment.of(ends, ends, every))
    wanted = student.mean(jensen_shannon(s, t, 1.0, beta))
    for one in (teacher, aligned):
        torch.testing.assert_close(Gold(beta=beta)(student, one, 0.0), wanted)
        torch.testing.assert_close(
            ULD()(student, one, 0.0), student.mean(sorted_distance(s.softmax(-1), t.softmax(-1)))
        )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 1), min_size=1, max_size=5))
def test_all_outcomes_of_a_merged_prediction_sum_to_one(seed, lengths):
    generator = torch.Generator().manual_seed(seed)
    group = torch.tensor([number for number, more in enumerate(lengths) for _ in range(1 + more)])
    logits = 3 * torch.randn(len(group), 6, generator=generator, dtype=torch.float64)
    found = merged(logits, torch.randint(0, 6, (len(group),), generator=generator), group, len(lengths))
    for classes in ([], [1], [0, 3, 5], list(range(6))):
        index = torch.tensor(classes, dtype=torch.int64)
        log_p = matched(found, index)
        torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(len(lengths), dtype=torch.float64))
        assert unmatched(found, index).shape == (len(lengths), 6 - len(classes))


def test_gradients_are_right_and_finite_where_all_words_are_shared_and_nothing_is_left():
    def pure(s, t, classes=(0, 1, 2)):
        both = [merged(one, torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 1, 2]), 3) for one in (s, t)]
        index = torch.tensor(classes)
        return jensen_shannon(*(matched(one, index) for one in both), 1.0, 0.3)

    s, t = laws.pair(0)
    laws.gradient_is_right(pure, s, t)
    laws.gradient_is_right(lambda s, t: pure(s, t, (0, 2)), s, t)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)


def test_a_certain_later_token_leaves_the_first_as_it_is():
    sure = Merged(torch.tensor([[0.5, 0.5]]).log(), torch.zeros(1))
    assert matched(sure, torch.tensor([0, 1])).exp().tolist() == [[0.5, 0.5, 0.0]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6))
def test_the_distance_by_rank_is_a_distance_that_sees_no_order(seed, classes, others):
    generator = torch.Generator().manual_seed(seed)
    p, q, r = (torch.randn(3, n, generator=generator).double().softmax(-1) for n in (classes, others, classes))
    distance = sorted_distance(p, q)
    assert ((distance >= 0) & (distance <= 2)).all()
    torch.testing.assert_close(distance, sorted_distance(q, p))
    assert sorted_distance(p, p[:, torch.randperm(classes, generator=generator)]).abs().max() < 1e-12
    assert (sorted_distance(p, r) <= distance + sorted_distance(q, r) + 1e-12).all()


@pytest.mark.parametrize("term", [ULD(), Gold()], ids=["uld", "gold"])
def test_what_belongs_to_no_piece_and_pieces_outside_the_mask_do_not_matter(term):
    student, teacher = outputs()
    mask = student.mask.clone()
    mask[0, 1] = False  # half of the first piece
    student = replace(student, mask=mask, count=8.0)
    value = term(student, teacher, 0.0)
    before = torch.autograd.grad(value, student.logits)[0]
    assert (before[0, :2] == 0).all() and (before[1, 0] == 0).all()
    for garbage in laws.GARBAGE:
        logits = student.logits.detach().clone()
        logits[~mask] = garbage
        goal = teacher.logits.detach().clone()
        goal[~teacher.mask] = garbage
        other = term(replace(student, logits=logits.requires_grad_()), replace(teacher, logits=goal), 0.0)
        torch.testing.assert_close(other, value)
        torch.testing.assert_close(torch.autograd.grad(other, logits)[0], before)


@pytest.mark.parametrize("half", laws.HALVES)
@pytest.mark.parametrize("term", [ULD(), Gold()], ids=["uld", "gold"])
def test_half_precision_is_computed_in_float32(term, half):
    student, teacher = outputs(dtype=torch.float32, scale=3.0)
    plain = term(student, teacher, 0.0)
    with torch.autocast("cpu", half):
        mixed = term(student, teacher, 0.0)
    assert torch.equal(plain, mixed) and plain.dtype == torch.float32
    narrow = [replace(one, logits=one.logits.to(half)) for one in (student, teacher)]
    wide = [replace(one, logits=one.logits.float()) for one in narrow]
    assert torch.equal(term(*narrow, 0.0), term(*wide, 0.0))


@pytest.mark.parametrize("term", [ULD(), Gold()], ids=["uld", "gold"])
def test_a_batch_without_a_common_piece_is_zero(term):
    student, teacher = outputs()
    nothing = Alignment.of([np.array([NO_TEXT])] * 2, [np.array([NO_TEXT])] * 2, PAIRS)
    full = [torch.full(one.mask.shape, -1) for one in (student, teacher)]
    value = term(student, replace(teacher, alignment=Alignment(*full, nothing.pairs)), 0.0)
    assert value.item() == 0 and torch.autograd.grad(value, student.logits)[0].abs().max() == 0


def test_weights_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="matched_weight is -1"):
        Gold(matched_weight=-1.0)
    with pytest.raises(UserError, match="beta"):
        Gold(beta=1.5)


def test_kl_is_the_end_of_gold():
    s, t = laws.pair(0)
    student, teacher = (Output(one, torch.ones(4, dtype=torch.bool)) for one in (s, t))
    torch.testing.assert_close(Gold(beta=0.0)(student, teacher, 0.0), student.mean(tempered_kl(s, t, 1.0)))
