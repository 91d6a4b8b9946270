"""Divergences over the teacher's k largest classes and all others as one: the laws that all of them keep."""

from dataclasses import replace

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.logit.coarse import coarsened, parted
from kdlab.loss.logit.divergence import kl
from kdlab.loss.logit.jsd import JSD, jensen_shannon
from kdlab.loss.logit.kl import KL, tempered_kl
from kdlab.loss.logit.reverse_kl import ReverseKL, tempered_reverse_kl
from kdlab.loss.logit.skew_kl import SkewKL, skew_kl
from kdlab.loss.logit.skew_reverse_kl import SkewReverseKL, skew_reverse_kl
from kdlab.loss.logit.top_k_jsd import TopKJSD, coarsened_jensen_shannon
from kdlab.loss.logit.top_k_kl import TopKKL, coarsened_kl
from kdlab.loss.logit.top_k_reverse_kl import TopKReverseKL, coarsened_reverse_kl
from kdlab.loss.logit.top_k_skew_kl import TopKSkewKL, coarsened_skew_kl
from kdlab.loss.logit.top_k_skew_reverse_kl import TopKSkewReverseKL, coarsened_skew_reverse_kl
from kdlab.schedule.linear import Linear
from kdlab.top_k import TopK

FORMS = {  # the whole divergence, the same over k + 1 outcomes, and their terms
    "kl": (tempered_kl, coarsened_kl, KL, TopKKL, ()),
    "reverse_kl": (tempered_reverse_kl, coarsened_reverse_kl, ReverseKL, TopKReverseKL, ()),
    "jsd": (jensen_shannon, coarsened_jensen_shannon, JSD, TopKJSD, (0.3,)),
    "skew_kl": (skew_kl, coarsened_skew_kl, SkewKL, TopKSkewKL, (0.1,)),
    "skew_reverse_kl": (skew_reverse_kl, coarsened_skew_reverse_kl, SkewReverseKL, TopKSkewReverseKL, (0.1,)),
}
forms = pytest.mark.parametrize("form", FORMS)


def coarse(form, s, t, k, temperature):
    _, pure, _, _, more = FORMS[form]
    top = TopK.of(t, k, (temperature,))
    return pure(s, top.index, top.value, top.at(temperature), temperature, *more)


@forms
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.5, 1.0, 2.0, 8.0]), st.integers(2, 9), st.floats(0.1, 20))
def test_is_between_zero_and_the_whole_and_grows_with_k(form, seed, temperature, classes, scale):
    full, _, _, _, more = FORMS[form]
    s, t = (scale * one for one in laws.pair(seed, classes))
    whole = full(s, t, temperature, *more)
    values = torch.stack([coarse(form, s, t, k, temperature) for k in range(1, classes + 1)])
    room = 1e-9 * (1 + whole.abs())
    assert (values >= -room).all() and (values <= whole + room).all() and (values.diff(dim=0) >= -room).all()
    torch.testing.assert_close(values[-2], whole)  # one class in the tail is that class
    torch.testing.assert_close(values[-1], whole)


@forms
@pytest.mark.parametrize("k", [1, 3, 4, 5])
@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_laws(form, temperature, k):
    def pure(a, b):
        return coarse(form, a, b, k, temperature)

    s, t = laws.pair(0, classes=5)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)
    assert torch.autograd.gradcheck(lambda a: pure(a, t.detach()), (s,))


@forms
def test_a_term_reads_what_is_kept_and_of_a_whole_teacher_all(form):
    _, _, whole_term, term, _ = FORMS[form]
    s, t = laws.output(seed=0, classes=5), laws.output(seed=1, classes=5)
    extra = {"beta": 0.3} if form == "jsd" else {}
    built = term(temperature=2.0, **extra)
    torch.testing.assert_close(built(s, t, 0.0), whole_term(temperature=2.0, **extra)(s, t, 0.0))
    kept = replace(t, top=TopK.of(t.logits, 2))
    torch.testing.assert_close(built(s, kept, 0.0), s.mean(coarse(form, s.logits, t.logits, 2, 2.0)))
    with pytest.raises(UserError, match="add it to teacher"):
        term(temperature=3.0)(s, kept, 0.0)
    with pytest.raises(UserError, match=f"{built.name} takes one temperature"):
        term(temperature=Linear(4.0, 1.0))


def test_the_truncated_sum_of_the_literature_is_negative_and_with_the_tail_it_is_below_the_whole():
    p, q = torch.tensor([0.5, 0.3, 0.1, 0.1]).double(), torch.tensor([0.6, 0.35, 0.03, 0.02]).double()
    top = TopK.of(p.log(), 2, (1.0,))
    truncated = (p * (p / q).log())[:2].sum().item()
    with_tail = coarsened_kl(q.log(), top.index, top.value, top.at(1.0), 1.0).item()
    found = [round(one, 4) for one in (truncated, with_tail, tempered_kl(q.log(), p.log(), 1.0).item())]
    assert found == [-0.1374, 0.1399, 0.1439]


def trained(loss, k=5, classes=50, steps=400):
    """The student's mass on the teacher's k likeliest classes before and after some hundred gradient steps."""
    generator = torch.Generator().manual_seed(0)
    teacher = 3 * torch.randn(classes, generator=generator)
    student = (teacher + 0.3 * torch.randn(classes, generator=generator)).requires_grad_()
    top = TopK.of(teacher, k, (1.0,))
    optimizer = torch.optim.Adam([student], 0.05)
    begin = student.softmax(-1)[top.index].sum().item()
    for _ in range(steps):
        optimizer.zero_grad()
        loss(student, top).backward()
        optimizer.step()
    return begin, student.softmax(-1)[top.index].sum().item(), teacher.softmax(-1)[top.index].sum().item()


def test_reverse_kl_without_the_tail_empties_the_students_largest_classes_and_with_it_does_not():
    def truncated(student, top):
        log_s, log_t = coarsened(student, top.index, top.value, top.at(1.0), 1.0)
        return kl(log_s[:-1], log_t[:-1])

    begin, end, wanted = trained(truncated)
    assert begin > 0.8 and end < 0.5 < wanted  # e times too little: the minimum of q log(q / p) over q
    begin, end, wanted = trained(lambda s, top: coarsened_reverse_kl(s, top.index, top.value, top.at(1.0), 1.0))
    assert abs(end - wanted) < 0.01


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("gap", [0.0, 800.0])
def test_scores_and_the_logsumexp_of_the_others_as_torch_computes_them(gap, temperature):
    scores = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    index, found = torch.tensor([[5, 0], [1, 2], [3, 4]]), []
    scores = scores.scatter_add(-1, index, torch.full((3, 2), gap, dtype=torch.float64))  # others far below the first
    plan = torch.arange(1.0, 4.0, dtype=torch.float64)[:, None]

    def plain(scores):
        scores = scores / temperature
        return scores.gather(-1, index), scores.scatter(-1, index, -torch.inf).logsumexp(-1, keepdim=True)

    for function in (plain, lambda given: parted(given, index, temperature)):
        given = scores.clone().requires_grad_()
        some, others = function(given)
        ((plan * some).sum() + (plan * others).sum()).backward()
        found.append((some.detach(), others.detach(), given.grad))
    torch.testing.assert_close(*found)
    assert found[1][1].isfinite().all()


def test_others_without_mass_get_no_gradient_and_half_precision_comes_back_as_it_was():
    given = torch.tensor([2.0, -torch.inf, -torch.inf], dtype=torch.bfloat16).requires_grad_()
    some, others = parted(given, torch.tensor([0]), 1.0)
    (some.sum() + others.exp().sum()).backward()
    assert others.item() == -torch.inf and some.dtype == torch.float32
    assert given.grad.dtype == torch.bfloat16 and given.grad.tolist() == [1.0, 0.0, 0.0]
