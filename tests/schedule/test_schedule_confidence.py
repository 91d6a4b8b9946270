"""A value for each row, by the teacher's certainty of it."""

from math import log

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from kdlab.error import UserError
from kdlab.loss.logit.dist import DIST
from kdlab.loss.logit.kl import KL
from kdlab.loss.logit.tf_kd import TfKD
from kdlab.loss.objective import Objective
from kdlab.output import Output
from kdlab.schedule.confidence import Confidence, certainty


def row_losses(s, t, temperature=2.0):
    return [KL(1.0, temperature)(laws.cut(s, i, i + 1, 1), laws.cut(t, i, i + 1, 1), 0.0) for i in range(len(s.mask))]


def label_loss(student):
    return student.mean(student.logits.square().sum(-1))


@given(st.integers(0, 1000), st.integers(2, 6), st.floats(0.1, 10))
def test_certainty_is_that_of_scipys_entropy(seed, classes, scale):
    log_p = laws.output(3, classes, seed, scale=scale).logits.detach().log_softmax(-1)
    expected = [1 - entropy(row) / log(classes) for row in log_p.exp().numpy()]
    assert certainty(log_p, "entropy").tolist() == pytest.approx(expected, abs=1e-9)
    most = [(row.max() - 1 / classes) / (1 - 1 / classes) for row in log_p.exp().numpy()]
    assert certainty(log_p, "probability").tolist() == pytest.approx(most, abs=1e-9)


@pytest.mark.parametrize("by", ["entropy", "probability"])
def test_meets_its_ends(by):
    logits = torch.tensor([[0.0, 0, 0], [1e4, 0, 0]])
    said = Output(logits, torch.ones(2, dtype=torch.bool))
    torch.testing.assert_close(Confidence(0.2, 0.7, by).rows(0.0, said), torch.tensor([0.2, 0.7]))
    several = Output(logits, said.mask, label=torch.zeros(2, 3))
    torch.testing.assert_close(Confidence(0, 1, by).rows(0.0, several), torch.tensor([0.0, 1 / 3]))
    assert Confidence(0.7, 0.2).bounds() == (0.2, 0.7)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.1, 5))
def test_alpha_and_a_weight_are_those_of_each_row(seed, temperature):
    """mean_i((1 - a_i) * supervised_i + a_i * w_i * kl_i), written out."""
    s, t = laws.output(seed=seed), laws.output(seed=seed + 1)
    alpha, weight = Confidence(0.1, 0.9, temperature=temperature), Confidence(2.0, 0.5, "probability")
    a, w = alpha.rows(0.0, t), weight.rows(0.0, t)
    objective = Objective(alpha, 2.0, {"kl": KL(weight, 2.0)})
    total, _ = objective(label_loss(objective.labels(s, t, 0.0)), s, t, 0.0)
    supervised = s.logits.square().sum(-1)
    expected = sum((1 - a[i]) * supervised[i] + a[i] * w[i] * kl for i, kl in enumerate(row_losses(s, t))) / len(a)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(objective.current(0.0), {"alpha": a.mean(), "kl.weight": w.mean()})


def test_micro_batches_add_up():
    s, t = laws.output(rows=7, seed=0), laws.output(rows=7, seed=1)
    objective = Objective(Confidence(), 1.0, {"kl": KL()})
    whole = objective(label_loss(objective.labels(s, t, 0.0)), s, t, 0.0)[0]
    parts = []
    for start, stop in ((0, 2), (2, 7)):
        own, other = laws.cut(s, start, stop, 3.5), laws.cut(t, start, stop, 3.5)
        parts.append(objective(label_loss(objective.labels(own, other, 0.0)), own, other, 0.0)[0])
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_what_relates_rows_takes_the_mean():
    s, t = laws.output(seed=0), laws.output(seed=1)
    alpha = Confidence()
    got, _ = Objective(alpha, 1.0, {"dist": DIST()})(torch.zeros(()).double(), s, t, 0.0)
    torch.testing.assert_close(got, alpha.rows(0.0, t).mean() * DIST()(s, t, 0.0))


def test_a_teacher_without_any_certainty_leaves_the_labels_alone():
    s, t = laws.output(seed=0), laws.output(seed=1, scale=0.0)
    objective = Objective(Confidence(), 1.0, {"kl": KL()})
    total, _ = objective(label_loss(objective.labels(s, t, 0.0)), s, t, 0.0)
    torch.testing.assert_close(total, label_loss(s))


@pytest.mark.parametrize(
    ("match", "wrong"),
    [
        ("schedule.by", lambda: Confidence(by="margin")),
        ("schedule.temperature", lambda: Confidence(temperature=0)),
        ("schedule.sure", lambda: Confidence(sure="much")),
        ("the same for all rows", lambda: Objective(0.5, Confidence(1, 4), {"kl": KL()})),
        ("the same for all rows", lambda: KL(temperature=Confidence(1, 4))),
        (r"stay in \[0, 1\]", lambda: Objective(Confidence(0, 2), 1.0, {"kl": KL()})),
        ("no term of this loss has a teacher", lambda: Objective(Confidence(), 1.0, {"tf": TfKD()})),
    ],
)
def test_what_cannot_work_is_told(match, wrong):
    with pytest.raises(UserError, match=match):
        wrong()
