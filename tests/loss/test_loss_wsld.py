from dataclasses import replace
from math import exp

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from kdlab.error import UserError
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.wsld import WSLD, behind


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.5, 20), st.integers(2, 7))
def test_agrees_with_the_formula(seed, temperature, classes):
    s, t = laws.output(4, classes, seed), laws.output(4, classes, seed + 1)
    expected = 0.0
    for row in range(4):
        own, goal = (cross_entropy(x.logits[row], s.label[row]).item() for x in (s, t))
        expected += (1 - exp(-own / goal)) * tempered_kl(s.logits[row], t.logits[row], temperature).item() / 4
    assert WSLD(temperature=temperature)(s, t, 0.0).item() == pytest.approx(expected, rel=1e-4)


def test_the_weight_is_low_where_the_student_is_ahead_and_has_no_gradient():
    label = torch.tensor([0, 0, 0])
    good, bad = torch.tensor([5.0, 0, 0]), torch.tensor([-5.0, 0, 0])
    weight = behind(torch.stack([good, bad, bad]).requires_grad_(), torch.stack([bad, bad, good]), label)
    assert not weight.requires_grad
    assert weight[0] < 0.01 and weight[2] > 0.99
    assert weight[1].item() == pytest.approx(1 - exp(-1), rel=1e-6)


def test_laws():
    label = torch.tensor([0, 1, 2, 0])

    def pure(a, b):
        return behind(a, b, label) * tempered_kl(a, b, 2.0)

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)
    fixed = behind(s, t, label)
    laws.gradient_is_right(lambda a, b: fixed * tempered_kl(a, b, 2.0), s, t)


def test_rows_without_a_label_are_plain_kl():
    s, t = laws.output(seed=0), laws.output(seed=1)
    values = tempered_kl(s.logits, t.logits, 2.0)
    none = replace(s, label=-torch.ones_like(s.label))
    torch.testing.assert_close(WSLD(temperature=2.0)(none, t, 0.0), values.mean())
    half = replace(s, label=torch.tensor([0, 1, -1, -1]))
    mixed = torch.cat([(behind(s.logits, t.logits, s.label) * values)[:2], values[2:]])
    torch.testing.assert_close(WSLD(temperature=2.0)(half, t, 0.0), mixed.mean())


def test_the_temperature_matters_and_data_without_labels_is_told():
    s, t = laws.output(seed=0), laws.output(seed=1)
    laws.all_differ([WSLD(temperature=T) for T in (1.0, 2.0, 4.0)], s, t)
    with pytest.raises(UserError, match="labels"):
        WSLD()(replace(s, label=None), t, 0.0)
