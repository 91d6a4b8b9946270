from dataclasses import replace

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from kdlab.error import UserError
from kdlab.loss.logit.dkd import DKD, decoupled_kl
from kdlab.loss.logit.kl import tempered_kl


def by_hand(p, q, label):
    """The two parts from probabilities, as the paper defines them."""
    others = [c for c in range(len(p)) if c != label]
    tckd = rel_entr(p[label], q[label]) + rel_entr(1 - p[label], 1 - q[label])
    nckd = sum(rel_entr(p[c] / (1 - p[label]), q[c] / (1 - q[label])) for c in others)
    return tckd, nckd


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.5, 20), st.integers(2, 7))
def test_agrees_with_the_paper_and_sums_to_kl(seed, temperature, classes):
    s, t = laws.pair(seed, classes)
    label = torch.arange(4) % classes
    tckd, nckd = decoupled_kl(s, t, label, temperature)
    p, q = (softmax(x.detach().numpy() / temperature, -1) for x in (t, s))
    for row in range(4):
        expected = by_hand(p[row], q[row], int(label[row]))
        assert tckd[row].item() == pytest.approx(temperature**2 * expected[0], abs=1e-7)
        assert nckd[row].item() == pytest.approx(temperature**2 * expected[1], abs=1e-7)
    sure = (t / temperature).softmax(-1).gather(-1, label[:, None]).squeeze(-1)
    torch.testing.assert_close(tckd + (1 - sure) * nckd, tempered_kl(s, t, temperature))


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_laws(part, temperature):
    def pure(a, b):
        return decoupled_kl(a, b, torch.tensor([0, 1, 2, 0]), temperature)[part]

    s, t = laws.pair(0)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_with_two_classes_only_the_target_is_left_and_it_is_kl():
    s, t = laws.pair(0, classes=2)
    tckd, nckd = decoupled_kl(s, t, torch.tensor([0, 1, 1, 0]), 2.0)
    torch.testing.assert_close(nckd, torch.zeros_like(nckd))
    torch.testing.assert_close(tckd, tempered_kl(s, t, 2.0))


def test_each_weight_and_the_temperature_matter():
    s, t = laws.output(seed=0), laws.output(seed=1)
    laws.all_differ([DKD(temperature=T, tckd=a, nckd=b) for T in (1, 4) for a in (0.5, 1) for b in (1, 8)], s, t)
    tckd, nckd = decoupled_kl(s.logits, t.logits, s.label, 4.0)
    torch.testing.assert_close(DKD(temperature=4.0)(s, t, 0.0), (tckd + 8 * nckd).mean())


def test_rows_without_a_label_take_the_teachers_class():
    s, t = laws.output(seed=0), laws.output(seed=1)
    some = torch.tensor([0, -1, 2, -1])
    likely = t.logits.argmax(-1)
    full = torch.where(some < 0, likely, some)
    assert not torch.equal(full, s.label)
    torch.testing.assert_close(DKD()(replace(s, label=some), t, 0.0), DKD()(replace(s, label=full), t, 0.0))
    torch.testing.assert_close(DKD()(replace(s, label=None), t, 0.0), DKD()(replace(s, label=likely), t, 0.0))


@pytest.mark.parametrize("wrong", [{"tckd": -1.0}, {"nckd": "much"}, {"temperature": 0}])
def test_what_cannot_be_is_told(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        DKD(**wrong)
