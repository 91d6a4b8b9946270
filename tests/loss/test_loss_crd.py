"""The contrast, its memory banks, and what makes a run with them resumable."""

import copy
import multiprocessing
from functools import partial
from math import exp, log

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed

from kdlab.error import UserError
from kdlab.loss.relation.bank import Bank, draw, draw_apart
from kdlab.loss.relation.crd import CRD, contrast
from kdlab.loss.term import ModelSpec

ROWS = 12


def connected(seed=0, rows=ROWS, **setting):
    torch.manual_seed(seed)
    term = CRD(**{"negatives": 5, "dimension": 3} | setting)
    term.build_adapters(ModelSpec({"pooled": 4}), ModelSpec({"pooled": 6}), rows)
    return term.double()


def outputs(seed=0, **kind):
    return laws.output(seed=seed, width=4, **kind), laws.output(seed=seed + 1, width=6)


def step(term, seed, value=None):
    torch.manual_seed(seed)
    return term(*(outputs(seed) if value is None else value), 0.0)


def same(one, two):
    return all(torch.equal(a, b) or (a.isnan() & b.isnan()).all() for a, b in zip(one, two, strict=True))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(2, 50))
def test_is_the_formula_of_the_paper(seed, count, rows):
    """- log h(positive) - sum over negatives of log(1 - h), h = e^s / Z / (e^s / Z + N / M), with loops."""
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(4, 1 + count, generator=generator, dtype=torch.float64)
    log_z = torch.tensor(1.3, dtype=torch.float64)

    def h(score):
        return (e := exp(score) / exp(1.3)) / (e + count / rows)

    expected = [-log(h(row[0])) - sum(log(1 - h(score)) for score in row[1:]) for row in scores.tolist()]
    value = contrast(scores, torch.ones(4, count, dtype=torch.bool), log_z, count, rows)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_those_that_count_stand_for_those_that_do_not():
    scores = torch.randn(1, 4, dtype=torch.float64)
    scores[0, 2] = scores[0, 1]
    some, every = torch.tensor([[True, True, False]]), torch.ones(1, 2, dtype=torch.bool)
    with_two = contrast(scores[:, :3], every, torch.tensor(0.0), 3, 9)
    torch.testing.assert_close(contrast(scores, some, torch.tensor(0.0), 3, 9), with_two)


def test_laws():
    def pure(a, _):
        return contrast(a, torch.ones(4, 5, dtype=torch.bool), a.new_zeros(()), 5, 12)

    scores = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    laws.never_negative(pure, scores, scores)
    laws.gradient_is_right(pure, scores, scores.detach())
    laws.stays_finite(pure, scores, scores)
    (gradient,) = torch.autograd.grad(pure(scores, None).sum(), scores)
    assert (gradient[:, 0] < 0).all() and (gradient[:, 1:] > 0).all(), "towards its own row, away from others"


def test_the_whole_value_is_both_directions_over_the_banks():
    term = connected()
    s, t = outputs()
    s = laws.replace(s, label=None)
    torch.manual_seed(3)
    index = torch.cat([s.row[:, None], draw(s.row, 5, ROWS)], 1)
    expected = 0
    for layer, tap, bank in (
        (term.student, s.taps["pooled"], term.teacher_bank),
        (term.teacher, t.taps["pooled"], term.student_bank),
    ):
        unit = layer(tap) / layer(tap).norm(dim=-1, keepdim=True)
        scores = torch.stack([bank.vectors[index[i]] @ unit[i] / 0.07 for i in range(4)])
        log_z = (scores.exp().mean() * ROWS).log()
        expected = expected + contrast(scores, torch.ones(4, 5, dtype=torch.bool), log_z, 5, ROWS).mean()
    torch.testing.assert_close(step(term, 3, (s, t)), expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 9))
def test_the_anchor_is_never_among_its_negatives_and_every_other_row_is(seed, rows):
    torch.manual_seed(seed)
    anchors = torch.arange(rows)
    drawn = draw(anchors, 400, rows)
    assert drawn.min() >= 0 and drawn.max() < rows
    assert not (drawn == anchors[:, None]).any()
    counts = torch.stack([row.bincount(minlength=rows) for row in drawn])
    others = counts[~torch.eye(rows, dtype=torch.bool)] / 400
    assert (others - 1 / (rows - 1)).abs().max() < 0.13, "uniform: four standard deviations and more"


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 4))
def test_negatives_are_of_other_classes_and_each_of_these_as_often(seed, classes):
    torch.manual_seed(seed)
    known = torch.arange(12) % classes
    known[-1] = -1  # nobody knows
    row = torch.arange(12)
    drawn, fits = draw_apart(row, 3000, known, known)
    assert fits.float().mean() > 0.9 and fits[-1].all()
    for anchor in row:
        allowed = (row != anchor) & ((known != known[anchor]) | (known[anchor] < 0))
        share = drawn[anchor][fits[anchor]].bincount(minlength=12) / fits[anchor].sum()
        assert (share[~allowed] == 0).all()
        assert (share[allowed] - 1 / allowed.sum()).abs().max() < 0.045


def test_a_negative_of_the_same_class_counts_nothing():
    """With all rows of one class there is no negative; without labels all others are some."""
    term = connected()
    s, t = outputs()
    alike = laws.replace(s, label=torch.ones_like(s.label))
    term.label[:-1] = 1
    alone = step(copy.deepcopy(term), 1, (alike, t))
    assert step(copy.deepcopy(term), 1, (laws.replace(s, label=None), t)) > alone + 0.1
    term(alike, t, 0.0)
    assert term.label[s.row].tolist() == [1] * 4


def test_a_trial_leaves_no_trace_and_a_training_step_is_kept_after_it_was_used():
    term = connected().eval()
    before = copy.deepcopy(term.state_dict())
    with torch.no_grad():
        trial = step(term, 1)
    step(term, 1)
    term.train()
    with torch.no_grad():
        step(term, 1)
    assert same(before.values(), term.state_dict().values())
    assert torch.equal(step(term, 1), trial), "what is written is not what is read"
    s, _ = outputs(1)
    changed = (before["student_bank.vectors"] != term.student_bank.vectors).any(-1)
    assert changed.nonzero().flatten().tolist() == s.row.tolist() == term.student_bank.seen.nonzero().flatten().tolist()


def test_rows_outside_the_mask_are_not_written():
    term = connected()
    s, t = outputs(mask=[True, False, True, True])
    old = term.teacher_bank.vectors.clone()
    step(term, 0, (laws.replace(s, row=torch.tensor([4, 4, 5, 6])), t))
    assert term.teacher_bank.seen.nonzero().flatten().tolist() == [4, 5, 6]
    unit = term.teacher(t.taps["pooled"]) / term.teacher(t.taps["pooled"]).norm(dim=-1, keepdim=True)
    torch.testing.assert_close(term.teacher_bank.vectors[4:7], unit[[0, 2, 3]])
    assert torch.equal(term.teacher_bank.vectors[:4], old[:4])


def test_a_bank_moves_by_its_momentum_and_stays_at_length_one():
    bank, mask = Bank(3, 2, 0.25), torch.tensor([True])
    bank.write(torch.tensor([1]), torch.tensor([[1.0, 0.0]]), mask)
    bank.write(torch.tensor([1]), torch.tensor([[0.0, 1.0]]), mask)
    torch.testing.assert_close(bank.vectors[1], torch.tensor([0.25, 0.75]) / torch.tensor([0.25, 0.75]).norm())
    torch.testing.assert_close(bank.vectors.norm(dim=-1), torch.ones(4))


def test_a_run_goes_on_from_a_checkpoint_bit_for_bit():
    term = connected()
    for seed in range(3):
        step(term, seed)
    kept = copy.deepcopy(term.state_dict())
    assert {"student_bank.vectors", "teacher_bank.seen", "log_z", "student.weight"} <= set(kept)
    onwards = [step(term, seed) for seed in range(3, 6)]
    other = connected(seed=9)
    other.load_state_dict(kept)
    assert same(onwards, [step(other, seed) for seed in range(3, 6)])


def test_the_constant_is_set_by_the_first_step_and_stays():
    term = connected()
    assert term.log_z.isnan().all()
    step(term, 0)
    first = term.log_z.clone()
    step(term, 1)
    assert first.isfinite().all() and torch.equal(term.log_z, first)


def test_what_is_learned_finds_its_own_row():
    """After training, a student's vector is nearest to the teacher's of the same row: the point of the method."""
    torch.manual_seed(0)
    term = connected(rows=10, negatives=20, dimension=8)
    student, teacher = torch.randn(8, 4).double().requires_grad_(), torch.randn(8, 6).double()
    optimizer = torch.optim.Adam([student, *term.parameters()], 0.05)
    s, t = outputs(rows=8)
    row = torch.arange(8)
    for seed in range(60):
        pair = (laws.replace(out, taps={"pooled": x}, row=row) for out, x in ((s, student), (t, teacher)))
        optimizer.zero_grad()
        step(term, seed, tuple(pair)).backward()
        optimizer.step()
    assert ((term.student(student) @ term.teacher_bank.vectors[:8].T).argmax(-1) == row).double().mean() >= 0.9


@pytest.mark.parametrize(
    "setting",
    [{"temperature": 0.5}, {"negatives": 9}, {"dimension": 5}, {"momentum": 0.9}],
    ids=lambda s: next(iter(s)),
)
def test_every_setting_does_something(setting):
    values = []
    for one in ({}, setting):
        term = connected(**one)
        values.append([step(term, seed % 2) for seed in range(3)][-1])
    assert not torch.isclose(*values)


@pytest.mark.parametrize("tap", ["pooled", "hidden.-1"])
def test_masked_rows_and_padding_do_not_matter(tap):
    term = CRD(negatives=5, dimension=3, taps={"student": tap, "teacher": tap})
    term.build_adapters(ModelSpec({tap: 4}), ModelSpec({tap: 6}), ROWS)
    laws.masked_rows_do_not_matter(term.double(), *outputs(mask=[True, False, True, True]))


def test_what_cannot_be_is_told():
    for setting in ({"negatives": 0}, {"dimension": 1.5}, {"momentum": 1}, {"temperature": 0}):
        with pytest.raises(UserError, match=next(iter(setting))):
            CRD(**setting)
    with pytest.raises(UserError, match="has 1"):
        connected(rows=1)
    s, t = outputs()
    with pytest.raises(UserError, match="rows' ids"):
        connected()(laws.replace(s, row=None), t, 0.0)


def write_own_rows(rank, file, queue):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    bank = fresh()
    bank.write(*(value[rank::2][: 2 - rank] for value in written()))
    queue.put((rank, bank.vectors.tolist(), bank.seen.tolist()))
    distributed.destroy_process_group()


def written():
    generator = torch.Generator().manual_seed(1)
    return torch.arange(3), torch.randn(3, 2, generator=generator), torch.tensor([True, True, True])


def fresh():
    torch.manual_seed(0)
    return Bank(5, 2, 0.5)


def test_every_process_writes_the_rows_of_all(tmp_path):
    """With two processes, of 2 rows and of 1, both banks end as one process with all 3 rows ends."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    started = [context.Process(target=partial(write_own_rows, rank, tmp_path / "meet", queue)) for rank in range(2)]
    for process in started:
        process.start()
    found = [queue.get(timeout=60) for _ in started]
    for process in started:
        process.join(60)
    alone = fresh()
    alone.write(*written())
    assert sorted(rank for rank, *_ in found) == [0, 1]
    for _, vectors, seen in found:
        assert vectors == alone.vectors.tolist() and seen == alone.seen.tolist()
