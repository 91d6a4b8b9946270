import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.top_k_kl import TopKKL, coarsened_kl
from kdlab.loss.objective import Objective
from kdlab.schedule.linear import Linear
from kdlab.top_k import TopK

seeds = st.integers(0, 10_000)
temperatures = st.sampled_from([0.5, 1.0, 2.0, 8.0])


def coarse(student, teacher, k, temperature):
    top = TopK.of(teacher, k, (temperature,))
    return coarsened_kl(student, top.index, top.value, top.at(temperature), temperature)


@settings(max_examples=30, deadline=None)
@given(seeds, temperatures, st.integers(2, 9), st.data())
def test_agrees_with_the_sum_over_outcomes_written_out(seed, temperature, classes, data):
    k = data.draw(st.integers(1, classes))
    s, t = laws.pair(seed, classes)
    q, p = (s / temperature).softmax(-1), (t / temperature).softmax(-1)
    index = t.topk(k).indices
    p_k, q_k = p.gather(-1, index), q.gather(-1, index)
    rest_p, rest_q = 1 - p_k.sum(-1), 1 - q_k.sum(-1)
    expected = (p_k * (p_k / q_k).log()).sum(-1)
    expected = expected + (rest_p * (rest_p / rest_q).log() if k < classes else 0)
    torch.testing.assert_close(coarse(s, t, k, temperature), temperature**2 * expected, atol=1e-9, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seeds, temperatures, st.integers(2, 9), st.floats(0.1, 20))
def test_is_between_zero_and_the_whole_and_grows_with_k(seed, temperature, classes, scale):
    s, t = (scale * one for one in laws.pair(seed, classes))
    whole = tempered_kl(s, t, temperature)
    values = torch.stack([coarse(s, t, k, temperature) for k in range(1, classes + 1)])
    room = 1e-9 * (1 + whole.abs())
    assert (values >= -room).all() and (values <= whole + room).all()
    assert (values.diff(dim=0) >= -room).all()
    torch.testing.assert_close(values[-2], whole)  # one class in the tail is that class
    torch.testing.assert_close(values[-1], whole)


@pytest.mark.parametrize("k", [1, 3, 4, 5])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_laws(temperature, k):
    s, t = laws.pair(0, classes=5)
    laws.zero_at_equality(lambda a, b: coarse(a, b, k, temperature), s)
    laws.stays_finite(lambda a, b: coarse(a, b, k, temperature), s, t)
    laws.ignores_shifts(lambda a, b: coarse(a, b, k, temperature), s, t)
    top = TopK.of(t.detach(), k, (temperature,))
    tail = top.at(temperature)
    assert torch.autograd.gradcheck(lambda a: coarsened_kl(a, top.index, top.value, tail, temperature), (s,))


def test_term_reads_what_is_kept_and_of_a_whole_teacher_all():
    s, t = laws.output(seed=0, classes=5), laws.output(seed=1, classes=5)
    term = TopKKL(temperature=2.0)
    torch.testing.assert_close(term(s, t, 0.0), s.mean(tempered_kl(s.logits, t.logits, 2.0)))
    from dataclasses import replace

    kept = replace(t, top=TopK.of(t.logits, 2))
    torch.testing.assert_close(term(s, kept, 0.0), s.mean(coarse(s.logits, t.logits, 2, 2.0)))
    with pytest.raises(UserError, match="add it to teacher"):
        TopKKL(temperature=3.0)(s, kept, 0.0)


def test_what_cannot_be_is_told_before_training():
    from kdlab.loss.logit.kl import KL

    with pytest.raises(UserError, match="takes one temperature"):
        TopKKL(temperature=Linear(4.0, 1.0))
    with pytest.raises(UserError, match=r"loss=kd_top_k"):
        Objective(0.5, terms={"kl": KL()}).check_kept(64, [1.0])
    with pytest.raises(UserError, match=r"teacher\.temperatures"):
        Objective(0.5, terms={"top": TopKKL(temperature=3.0)}).check_kept(64, [1.0, 2.0])
    Objective(0.5, terms={"kl": KL()}).check_kept(None, [1.0])
    Objective(0.5, terms={"top": TopKKL(temperature=2.0)}).check_kept(64, [1.0, 2.0])
