"""Laws of learning from one's own deepest layer."""

import laws
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from kdlab.error import UserError
from kdlab.loss.feature.deep_to_shallow import DeepToShallow, deep_to_shallow
from kdlab.loss.term import ModelSpec


@given(rows=st.integers(1, 5), classes=st.integers(2, 5), seed=st.integers(0, 99), alpha=st.floats(0, 1))
def test_it_is_the_papers_formula_written_out(rows, classes, seed, alpha):
    """Zhang et al. 2019, equation 4: label and deepest layer, with T squared; no label, no first part."""
    shallow, deep = (laws.output(rows, classes, seed + side).logits.detach() for side in (0, 1))
    label = torch.arange(rows) % (classes + 1) - 1
    values = deep_to_shallow(shallow, deep, label, 3.0, alpha)
    for row in range(rows):
        own, goal = shallow[row].numpy(), deep[row].numpy()
        known = 0.0 if label[row] < 0 else -log_softmax(own)[label[row]]
        p = softmax(goal / 3)
        kl = 9 * (p * (log_softmax(goal / 3) - log_softmax(own / 3))).sum()
        assert float(values[row]) == pytest.approx((1 - alpha) * known + alpha * kl, abs=1e-9)


def test_gradient_and_extremes():
    shallow, deep = laws.output().logits, laws.output(seed=1).logits
    label = torch.tensor([0, -1, 2, 1])
    assert torch.autograd.gradcheck(
        lambda own: deep_to_shallow(own, deep.detach(), label, 2.0, 0.5), (shallow,), atol=1e-6
    )
    laws.stays_finite(lambda own, goal: deep_to_shallow(own, goal, label, 2.0, 0.5), shallow, deep)


def made(**how):
    torch.manual_seed(0)
    term = DeepToShallow(**how)
    term.resolve_layers(3, 0)
    term.build_adapters(ModelSpec(dict.fromkeys(term.taps["student"], 6), 3, 3), ModelSpec(), rows=9)
    return term.double()


def test_all_inner_layers_learn_and_the_deepest_is_not_pulled_down():
    term = made()
    assert term.taps["student"] == ("hidden.0", "hidden.1") and len(term.heads) == 2
    student = laws.output(taps=term.taps["student"])
    gradients = laws.gradients(term(student, laws.output(seed=1), 0.0), student)
    assert (gradients["logits"] == 0).all()
    assert all((gradients[tap] != 0).any() for tap in term.taps["student"])


@pytest.mark.parametrize("knob", [{"alpha": 0.9}, {"temperature": 4.0}, {"layers": [0]}], ids=str)
def test_every_knob_matters(knob):
    student = laws.output(taps=("hidden.0", "hidden.1"))
    assert made()(student, student, 0.0) != made(**knob)(student, student, 0.0)


@pytest.mark.parametrize("layers", [[2], [-1], []])
def test_layers_that_have_none_above_are_refused(layers):
    with pytest.raises(UserError, match=r"the student has the layers \[0, 1, 2\], so choose among \[0, 1\]"):
        made(layers=layers)
