from dataclasses import replace

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.partial_softmax import PartialSoftmax, partial_softmax_kl


def by_hand(s, t, label, temperature):
    """One softmax a label of the row, as the method defines it."""
    outside = [c for c, has in enumerate(label) if not has]
    total = 0.0
    for own in (c for c, has in enumerate(label) if has):
        p, q = (softmax([x[c] / temperature for c in [own, *outside]]) for x in (t, s))
        total += temperature**2 * rel_entr(p, q).sum() if outside else 0.0
    return total


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.5, 20), st.integers(1, 6), st.data())
def test_agrees_with_the_method_done_by_hand(seed, temperature, classes, data):
    s, t = laws.pair(seed, classes)
    label = data.draw(st.lists(st.lists(st.booleans(), min_size=classes, max_size=classes), min_size=4, max_size=4))
    value = partial_softmax_kl(s, t, torch.tensor(label), temperature).tolist()
    expected = [by_hand(a, b, c, temperature) for a, b, c in zip(s.tolist(), t.tolist(), label, strict=True)]
    assert value == pytest.approx(expected, abs=1e-9)


def test_one_label_is_plain_kl_and_labels_do_not_compete():
    s, t = laws.pair(0, 4)
    one = torch.eye(4, dtype=torch.bool)
    torch.testing.assert_close(partial_softmax_kl(s, t, one, 2.0), tempered_kl(s, t, 2.0))
    two = one | one.roll(1, 1)
    moved = s + 3 * (two & ~one)  # how high one label is does not change what the other one costs
    (gradient,) = torch.autograd.grad(partial_softmax_kl(s, t, two, 2.0).sum(), s)
    assert (partial_softmax_kl(moved, t, two, 2.0) != partial_softmax_kl(s, t, two, 2.0)).all()
    assert gradient.abs().min() > 0


@pytest.mark.parametrize("label", [[[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]]])
def test_laws(label):
    label = torch.tensor(label).bool()

    def pure(a, b):
        return partial_softmax_kl(a, b, label, 2.0)

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)
    assert (pure(s, t)[2:] == 0).all()


def test_rows_without_labels_take_what_the_teacher_finds_likely():
    s, t = laws.output(seed=0, multi_label=True), laws.output(seed=1)
    none = replace(s, label=-torch.ones_like(s.label))
    likely = replace(s, label=(t.logits > 0).long())
    term = PartialSoftmax(temperature=2.0)
    torch.testing.assert_close(term(none, t, 0.0), term(likely, t, 0.0))
    torch.testing.assert_close(term(replace(s, label=None), t, 0.0), term(likely, t, 0.0))
    assert term(none, t, 0.0) != term(s, t, 0.0)


def test_the_temperature_matters():
    s, t = laws.output(seed=0, multi_label=True), laws.output(seed=1)
    laws.all_differ([PartialSoftmax(temperature=T) for T in (1.0, 2.0, 4.0)], s, t)
