import laws
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import huber

from kdlab.error import UserError
from kdlab.loss.logit.regression import Regression, huber_distance
from kdlab.loss.objective import Objective
from kdlab.loss.term import ModelSpec


@given(st.integers(0, 10_000), st.floats(0.01, 10))
def test_agrees_with_scipy_and_is_never_steeper_than_delta(seed, delta):
    s, t = (5 * x for x in laws.pair(seed, 1))
    value = huber_distance(s, t, delta)
    torch.testing.assert_close(value.detach(), torch.tensor(huber(delta, (s - t).detach().numpy())).squeeze(-1))
    assert torch.autograd.grad(value.sum(), s)[0].abs().max() <= delta + 1e-9


@pytest.mark.parametrize("delta", [0.1, 1.0, 100.0])
def test_laws(delta):
    def pure(a, b):
        return huber_distance(a, b, delta)

    s, t = laws.pair(0, 1)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


def test_is_half_the_square_near_the_teacher():
    s, t = laws.pair(0, 1)
    torch.testing.assert_close(huber_distance(s, t, 100.0), (s - t).square().squeeze(-1) / 2)


def test_delta_matters_and_models_with_classes_are_told():
    s, t = laws.output(classes=1, seed=0), laws.output(classes=1, seed=1)
    laws.all_differ([Regression(delta=delta) for delta in (0.01, 0.1, 0.5)], s, t)
    with pytest.raises(UserError, match="delta"):
        Regression(delta=0)
    objective = Objective(0.5, 1.0, {"number": Regression()})
    objective.build_adapters(ModelSpec(classes=1), ModelSpec(classes=1), 8)
    with pytest.raises(UserError, match=r"loss\.terms\.number \(Regression\) is for models that give 1 number"):
        objective.build_adapters(ModelSpec(classes=2), ModelSpec(classes=2), 8)
