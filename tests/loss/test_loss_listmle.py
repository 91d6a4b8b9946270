from itertools import pairwise, permutations
from math import exp

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.logit.listmle import ListMLE, order_likelihood


def scores(order):
    """A teacher who puts the classes into this order."""
    return torch.tensor([[-float(order.index(c)) for c in range(len(order))]])


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6))
def test_agrees_with_drawing_one_class_after_the_other(seed, classes, top):
    s, t = laws.pair(seed, classes)
    for row, value in enumerate(order_likelihood(s, t, top).tolist()):
        left, chance = list(range(classes)), 1.0
        for _ in range(min(top, classes)):
            best = max(left, key=lambda c: t[row, c].item())
            chance *= exp(s[row, best].item()) / sum(exp(s[row, c].item()) for c in left)
            left.remove(best)
        assert exp(-value) == pytest.approx(chance)


def test_the_likelihoods_of_all_orders_sum_to_1():
    s, _ = laws.pair(0, 4, rows=1)
    total = sum(exp(-order_likelihood(s, scores(order), 4).item()) for order in permutations(range(4)))
    assert total == pytest.approx(1)


def test_sees_only_the_order_of_the_teacher_and_goes_to_0_as_the_student_parts():
    s, t = laws.pair(0, 5)
    torch.testing.assert_close(order_likelihood(s, t.exp() * 7 - 2, 5), order_likelihood(s, t, 5))
    values = [order_likelihood(scale * t, t, 5) for scale in (-1, 0, 1, 100)]
    assert all((a > b).all() for a, b in pairwise(values))
    assert order_likelihood(1e4 * t, t, 5).max() < 1e-6


@pytest.mark.parametrize("top", [1, 2, 3])
def test_laws(top):
    def pure(a, b):
        return order_likelihood(a, b, top)

    s, t = laws.pair(0)
    assert (pure(s, t) > 0).all()
    assert torch.autograd.gradcheck(lambda x: pure(x, t.detach()), s)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_the_first_place_alone_is_cross_entropy_with_the_teachers_class():
    s, t = laws.pair(0, 5)
    expected = torch.nn.functional.cross_entropy(s, t.argmax(-1), reduction="none")
    torch.testing.assert_close(order_likelihood(s, t, 1), expected)


def test_top_matters_and_impossible_ones_are_told():
    s, t = laws.output(classes=4, seed=0), laws.output(classes=4, seed=1)
    laws.all_differ([ListMLE(top=top) for top in (1, 2, 3)], s, t)
    torch.testing.assert_close(ListMLE()(s, t, 0.0), ListMLE(top=4)(s, t, 0.0))
    for top in (0, -1, 1.5, True, "all"):
        with pytest.raises(UserError, match="top"):
            ListMLE(top=top)
