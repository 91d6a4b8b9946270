from dataclasses import replace
from math import log

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from torch.nn.functional import cross_entropy

from kdlab.error import UserError
from kdlab.loss.logit.kl import KL
from kdlab.loss.logit.tf_kd import TfKD, virtual_teacher
from kdlab.loss.objective import Objective


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.5, 40), st.floats(0.05, 0.999), st.integers(2, 7))
def test_agrees_with_the_formula(seed, temperature, confidence, classes):
    s = laws.output(4, classes, seed)
    expected = 0.0
    for row, label in zip(s.logits.detach(), s.label, strict=True):
        p = [confidence if c == label else (1 - confidence) / (classes - 1) for c in range(classes)]
        soft = [x ** (1 / temperature) for x in p]
        soft = [x / sum(soft) for x in soft]
        expected += temperature**2 * rel_entr(soft, softmax(row.numpy() / temperature)).sum() / 4
    value = TfKD(temperature=temperature, confidence=confidence)(s, s, 0.0)
    assert value.item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_is_least_at_the_virtual_teacher_and_has_a_right_gradient():
    s = laws.output(seed=0)
    virtual = virtual_teacher(s.label, 3, 0.9, torch.float64)
    torch.testing.assert_close(virtual.exp().sum(-1), torch.ones(4, dtype=torch.float64))
    assert TfKD(confidence=0.9)(replace(s, logits=virtual), s, 0.0).abs() < 1e-12
    assert TfKD(confidence=0.9)(s, s, 0.0) > 0
    assert torch.autograd.gradcheck(lambda x: TfKD()(replace(s, logits=x), s, 0.0), s.logits)


def test_at_temperature_1_it_has_the_gradient_of_label_smoothing():
    s, smoothing = laws.output(seed=0), 0.1
    value = TfKD(temperature=1.0, confidence=1 - smoothing + smoothing / 3)(s, s, 0.0)
    smoothed = cross_entropy(s.logits, s.label, label_smoothing=smoothing)
    torch.testing.assert_close(*(torch.autograd.grad(x, s.logits)[0] for x in (value, smoothed)))


def test_rows_without_a_label_add_nothing():
    s = laws.output(seed=0)
    values = [TfKD()(laws.cut(s, row, row + 1, 1.0), s, 0.0) for row in range(4)]
    some = replace(s, label=torch.tensor([0, -1, -1, 0]))
    torch.testing.assert_close(TfKD()(some, s, 0.0), (values[0] + values[3]) / 4)
    with pytest.raises(UserError, match="labels"):
        TfKD()(replace(s, label=None), s, 0.0)


def test_finite_at_extremes():
    for scale in (1e4, -1e4):
        s = laws.output(seed=0, dtype=torch.bfloat16)
        value = TfKD()(replace(s, logits=s.logits * scale), s, 0.0)
        assert value.isfinite() and value.dtype == torch.float32
        assert torch.autograd.grad(value, s.logits)[0].isfinite().all()


def test_needs_no_teacher_unless_another_term_does():
    s, t = laws.output(seed=0), laws.output(seed=1)
    alone, beside = Objective(0.5, 1.0, {"tf": TfKD()}), Objective(0.5, 1.0, {"tf": TfKD(), "kl": KL()})
    assert not alone.needs_teacher and beside.needs_teacher
    supervised = s.logits.square().mean()
    total, parts = alone(supervised, s, None, 0.0)
    torch.testing.assert_close(total, 0.5 * supervised + 0.5 * parts["tf"])
    torch.testing.assert_close(beside(supervised, s, t, 0.0)[1]["tf"], parts["tf"])
    with pytest.raises(UserError, match="no teacher was read"):
        beside(supervised, s, None, 0.0)


def test_every_setting_matters():
    s = laws.output(seed=0)
    laws.all_differ([TfKD(temperature=T, confidence=c) for T in (1, 20) for c in (0.5, 0.99)], s, s)
    assert TfKD(temperature=1.0, confidence=0.9)(s, s, 0).item() > -log(0.9) / 4
    for confidence in (0, 1, 1.5, "sure"):
        with pytest.raises(UserError, match="confidence"):
            TfKD(confidence=confidence)


@pytest.mark.slow
def test_a_whole_run_neither_finds_nor_trains_a_teacher(kdlab, tiny, tmp_path):
    words = [word for word in tiny["distill"] if not word.startswith("teacher.recipe")]
    code, out, err = kdlab("distill", *words, "loss=tf_kd", "logger=csv", "trainer.log_every_n_steps=1")
    assert code == 0, out + err
    assert [path.name for path in (tmp_path / "outputs").iterdir() if path.name != "store"] == ["distill"]
    (history,) = (tmp_path / "outputs/distill").glob("*/history.csv")
    assert "train/loss/tf_kd" in history.read_text().splitlines()[0]
