import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from kdlab.loss.logit.listnet import ListNet, top_one_kl

ALL = torch.ones(4, dtype=torch.bool)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.5, 20), st.integers(1, 6), st.integers(1, 4))
def test_agrees_with_scipy_over_the_rows(seed, temperature, rows, classes):
    s, t = laws.pair(seed, classes, rows)
    p, q = (softmax(x.detach().numpy() / temperature, 0) for x in (t, s))
    expected = torch.tensor(temperature**2 * rel_entr(p, q).sum(0))
    mask = torch.ones(rows, dtype=torch.bool)
    torch.testing.assert_close(top_one_kl(s, t, mask, temperature).detach(), expected, atol=1e-9, rtol=1e-6)


def test_laws():
    def pure(a, b):
        return top_one_kl(a, b, ALL, 2.0)

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    shift = torch.tensor([3.0, -1.0, 8.0])
    torch.testing.assert_close(pure(s + shift, t - 2 * shift), pure(s, t))
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(pure(s[order], t[order]), pure(s, t))


def test_rows_outside_the_mask_are_not_in_the_list():
    s, t = laws.output(mask=[True, False, True, True], seed=0), laws.output(seed=1)
    kept = top_one_kl(s.logits[s.mask], t.logits[s.mask], ALL[:3], 2.0)
    torch.testing.assert_close(ListNet(temperature=2.0)(s, t, 0.0), kept.mean())
    none = torch.zeros(4, dtype=torch.bool)
    value = top_one_kl(s.logits, t.logits, none, 2.0)
    assert (value == 0).all() and torch.autograd.grad(value.sum(), s.logits)[0].isfinite().all()


def test_one_row_alone_has_no_order():
    s, t = laws.pair(0, rows=1)
    assert (top_one_kl(s, t, ALL[:1], 1.0) == 0).all()


@pytest.mark.parametrize("classes", [1, 3])
def test_the_temperature_matters(classes):
    s, t = laws.output(classes=classes, seed=0), laws.output(classes=classes, seed=1)
    laws.all_differ([ListNet(temperature=T) for T in (1.0, 2.0, 4.0)], s, t)
