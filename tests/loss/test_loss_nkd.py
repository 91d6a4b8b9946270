from dataclasses import replace
from math import log

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from kdlab.error import UserError
from kdlab.loss.logit.nkd import NKD, normalised_kd


def by_hand(s, t, label, temperature, gamma):
    """From logits of one row, class by class."""
    others = [c for c in range(len(s)) if c != label]
    target = -softmax(t)[label] * log(softmax(s)[label])
    n_t, n_s = (softmax([x[c] / temperature for c in others]) for x in (t, s))
    return target - gamma * temperature**2 * sum(a * log(b) for a, b in zip(n_t, n_s, strict=True))


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.5, 20), st.floats(0, 10), st.integers(2, 7))
def test_agrees_with_the_formula(seed, temperature, gamma, classes):
    s, t = laws.pair(seed, classes)
    label = torch.arange(4) % classes
    value = normalised_kd(s, t, label, temperature, gamma).tolist()
    expected = [by_hand(a, b, c, temperature, gamma) for a, b, c in zip(s.tolist(), t.tolist(), label, strict=True)]
    assert value == pytest.approx(expected)


def test_laws():
    def pure(a, b):
        return normalised_kd(a, b, torch.tensor([0, 1, 2, 0]), 2.0, 1.5)

    s, t = laws.pair(0)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_is_bounded_by_the_entropy_of_the_others_and_meets_it_at_a_sure_and_equal_student():
    _, t = laws.pair(0, 4)
    label = torch.tensor([0, 1, 2, 3])
    others = t.masked_fill(torch.eye(4, dtype=torch.bool), -torch.inf).softmax(-1)
    least = -1.5 * torch.xlogy(others, others).sum(-1)
    sure = t + 50 * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(normalised_kd(sure, t, label, 1.0, 1.5), least)
    assert (normalised_kd(t, t, label, 1.0, 1.5) > least).all()


def test_every_setting_matters():
    s, t = laws.output(seed=0), laws.output(seed=1)
    laws.all_differ([NKD(temperature=T, gamma=gamma) for T in (1, 4) for gamma in (0.5, 1.5)], s, t)
    with pytest.raises(UserError, match="gamma"):
        NKD(gamma=-1)


def test_rows_without_a_label_take_the_teachers_class():
    s, t = laws.output(seed=0), laws.output(seed=1)
    none, likely = replace(s, label=-torch.ones_like(s.label)), replace(s, label=t.logits.argmax(-1))
    torch.testing.assert_close(NKD()(none, t, 0.0), NKD()(likely, t, 0.0))
    assert NKD()(none, t, 0.0) != NKD()(s, t, 0.0)
