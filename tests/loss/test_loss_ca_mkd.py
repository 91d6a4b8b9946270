import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from kdlab.error import UserError
from kdlab.loss.logit.ca_mkd import CAMKD, confidence
from kdlab.loss.logit.kl import KL, tempered_kl

NAMES = ("logits.a", "logits.b", "logits.c")


def outputs(names=NAMES, seed=0, **kind):
    return laws.output(seed=seed, **kind), laws.output(seed=seed + 1, taps=names)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 8), st.integers(2, 3))
def test_is_the_formula_of_the_paper(seed, temperature, count):
    """w_k = (1 - exp(CE_k) / sum exp(CE_j)) / (K - 1), row by row, with loops."""
    s, t = outputs(NAMES[:count], seed)
    total = 0
    for row in range(4):
        losses = [cross_entropy(t.taps[name][row], s.label[row]) for name in NAMES[:count]]
        for loss, name in zip(losses, NAMES, strict=False):
            weight = (1 - loss.exp() / sum(other.exp() for other in losses)) / (count - 1)
            total = total + weight * tempered_kl(s.logits[row], t.taps[name][row], temperature) / 4
    torch.testing.assert_close(CAMKD(temperature=temperature)(s, t, 0.0), total)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 5), st.permutations(range(4)))
def test_weights_sum_to_one_and_the_surest_of_the_label_has_the_most(seed, count, order):
    members = torch.randn(count, 4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    label = torch.tensor([0, 2, 1, -1])
    weight = confidence(members, label)
    torch.testing.assert_close(weight.sum(0), torch.ones(4, dtype=torch.float64))
    assert (weight >= 0).all() and (weight <= 1 / (count - 1) + 1e-12).all()
    known = members.softmax(-1).gather(-1, label.clamp(min=0).expand(count, 4)[..., None])[..., 0]
    assert (weight.argmax(0) == known.argmax(0))[:3].all()
    torch.testing.assert_close(weight[:, 3], torch.full((count,), 1 / count, dtype=torch.float64))
    torch.testing.assert_close(confidence(members[:, order], label[order]), weight[:, order])
    torch.testing.assert_close(confidence(1e4 * members, label).isfinite().all(), torch.tensor(True))


def test_without_labels_it_is_the_mean_over_teachers():
    s, t = outputs()
    s = laws.replace(s, label=None)
    each = [KL(temperature=2.0)(s, laws.replace(t, logits=t.taps[name]), 0.0) for name in NAMES]
    torch.testing.assert_close(CAMKD(temperature=2.0)(s, t, 0.0), sum(each) / 3)


def test_is_zero_where_all_agree_with_the_student_and_gives_a_gradient_elsewhere():
    s, t = outputs()
    t.taps.update(dict.fromkeys(NAMES, s.logits.detach()))
    value = CAMKD(temperature=2.0)(s, t, 0.0)
    torch.testing.assert_close(value, torch.zeros_like(value))
    assert CAMKD()(*outputs(), 0.0) > 0
    pure = torch.autograd.gradcheck(lambda a: CAMKD()(laws.replace(s, logits=a), outputs()[1], 0.0), s.logits)
    assert pure


def test_named_members_are_those_that_are_read():
    s, t = outputs()
    two = CAMKD(taps={"teacher": ["logits.c", "logits.a"]})
    assert two.taps["teacher"] == ("logits.c", "logits.a")
    rest = laws.replace(t, taps={name: t.taps[name] for name in ("logits.a", "logits.c")})
    torch.testing.assert_close(two(s, t, 0.0), CAMKD()(s, rest, 0.0))


def test_masked_rows_do_not_matter():
    s, t = outputs(mask=[True, False, True, True])
    laws.masked_rows_do_not_matter(CAMKD(), s, t)


def test_what_cannot_be_weighed_is_told():
    s, t = outputs(NAMES[:1])
    with pytest.raises(UserError, match=r"needs two.*logits\.a.*teacher=ensemble"):
        CAMKD()(s, t, 0.0)
    with pytest.raises(UserError, match="no members"):
        CAMKD()(s, laws.output(seed=1), 0.0)
    with pytest.raises(UserError, match=r"needs logits\.a and logits\.z"):
        CAMKD(taps={"teacher": ["logits.a", "logits.z"]})(s, t, 0.0)
    with pytest.raises(UserError, match="labels of this task"):
        CAMKD()(s, laws.output(classes=4, taps=NAMES), 0.0)
    for taps in ({"teacher": ["pooled", "logits.a"]}, {"student": [], "teacher": []}, {"teacher": "logits.a"}):
        with pytest.raises(UserError, match="ensemble's members"):
            CAMKD(taps=taps)
    with pytest.raises(UserError, match="name another"):
        CAMKD(taps={"teacher": ["logits.a"]})
