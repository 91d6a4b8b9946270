import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import mse_loss

from kdlab.error import UserError
from kdlab.loss.relation.srrl import SRRL, regression_difference
from kdlab.loss.term import ModelSpec


def connected(mine=6, theirs=6, seed=0, **setting):
    torch.manual_seed(seed)
    term, last = SRRL(**setting), nn.Linear(theirs, 3)
    term.build_adapters(ModelSpec({"pooled": mine}), ModelSpec({"pooled": theirs}, classifier=lambda: last), 8)
    return term.double(), last.double()


def outputs(last, mine=6, theirs=6, **kind):
    """A teacher whose logits are its classifier's, as they are of a model."""
    student, teacher = laws.output(width=mine, **kind), laws.output(width=theirs, seed=1)
    return student, laws.replace(teacher, logits=last(teacher.taps["pooled"]).detach().requires_grad_())


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 5))
def test_is_the_formula_of_the_paper(seed, matching):
    term, last = connected(4, 6, seed, matching=matching)
    s, t = outputs(last, 4, 6, seed=seed)
    features = term.adapter(s.taps["pooled"])
    expected = mse_loss(last(features), t.logits) + matching * mse_loss(features, t.taps["pooled"])
    torch.testing.assert_close(term(s, t, 0.0), expected)


def test_laws():
    weight, bias = torch.randn(3, 6).bfloat16(), torch.randn(3).bfloat16()
    s, t = laws.output(), laws.output(seed=1)

    def pure(features, logits):
        return regression_difference(features, logits, weight.to(features), bias.to(features))

    laws.never_negative(pure, s.taps["pooled"], t.logits)
    laws.gradient_is_right(pure, s.taps["pooled"], t.logits)
    laws.stays_finite(pure, s.taps["pooled"], t.logits)


def test_is_zero_for_the_teachers_own_features():
    term, last = connected()
    s, t = outputs(last)
    s.taps["pooled"] = t.taps["pooled"].detach().requires_grad_()
    value = term(s, t, 0.0)
    torch.testing.assert_close(value, torch.zeros_like(value))
    torch.testing.assert_close(laws.gradients(value, s)["pooled"], torch.zeros(4, 6, dtype=torch.float64))


def test_features_that_the_classifier_does_not_tell_apart_are_as_good_but_for_matching():
    """The classifier's null space is invisible to it: that is what softmax regression is about."""
    term, last = connected(matching=0)
    s, t = outputs(last)
    value = term(s, t, 0.0)
    *_, basis = torch.linalg.svd(last.weight)
    s.taps["pooled"] = s.taps["pooled"] + 5 * basis[-1]
    torch.testing.assert_close(term(s, t, 0.0), value)
    term.matching = 1.0
    assert not torch.isclose(term(s, t, 0.0), value)


def test_the_teachers_classifier_is_kept_and_does_not_learn():
    term, last = connected(4, 6)
    torch.testing.assert_close(term.state_dict()["classifier"], last.weight)
    assert {name for name, _ in term.named_parameters()} == {"adapter.weight", "adapter.bias"}
    last.weight.data.zero_()
    assert term.classifier.abs().sum() > 0, "a copy"


def test_masked_rows_do_not_matter():
    term, last = connected(4, 6)
    laws.masked_rows_do_not_matter(term, *outputs(last, 4, 6, mask=[True, False, True, True]))


def test_what_cannot_be_is_told():
    for teacher in (ModelSpec({"pooled": 6}), ModelSpec({"pooled": 6}, classifier=lambda: nn.Linear(5, 3))):
        with pytest.raises(UserError, match="no final linear layer"):
            SRRL().build_adapters(ModelSpec({"pooled": 6}), teacher, 8)
    with pytest.raises(UserError, match="matching"):
        SRRL(matching=-1)
