from math import log

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from kdlab.error import UserError
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.uncertainty_kl import UncertaintyKL, learning_value


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.5, 20), st.integers(2, 7))
def test_agrees_with_scipy(seed, temperature, classes):
    s, t = laws.pair(seed, classes)
    own, goal = (entropy(softmax(x.detach().numpy() / temperature, -1), axis=-1) for x in (s, t))
    expected = torch.tensor((goal + goal * own / log(classes)) / 2)
    torch.testing.assert_close(learning_value(s, t, temperature), expected, atol=1e-9, rtol=1e-6)


def test_is_largest_where_neither_knows_and_0_where_the_teacher_is_sure():
    even, sure = torch.zeros(4), 200 * torch.eye(4)[1]
    worth = learning_value(torch.stack([even, sure, even]), torch.stack([even, even, sure]), 1.0)
    torch.testing.assert_close(worth, torch.tensor([log(4), log(4) / 2, 0.0]))


def test_laws():
    def pure(a, b):
        return learning_value(a, b, 3.0) * tempered_kl(a, b, 2.0)

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)
    fixed = learning_value(s, t, 3.0)
    assert not fixed.requires_grad
    laws.gradient_is_right(lambda a, b: fixed * tempered_kl(a, b, 2.0), s, t)


def test_every_setting_matters():
    s, t = laws.output(seed=0), laws.output(seed=1)
    laws.all_differ([UncertaintyKL(temperature=T, entropy_temperature=U) for T in (1, 2) for U in (1, 3)], s, t)
    with pytest.raises(UserError, match="entropy_temperature"):
        UncertaintyKL(entropy_temperature=0)
