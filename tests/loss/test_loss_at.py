import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layered import features, ready, rows, tokens

from kdlab.error import UserError
from kdlab.loss.feature.at import AT, attention_map_difference


def pure(s, t):
    return attention_map_difference(s, t, tokens(), 2.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1.5, 2.0, 4.0]), st.integers(1, 5), st.integers(1, 7))
def test_is_the_formula_of_the_paper(seed, power, width, wider):
    term, s, t = ready(AT(layer_map="top", power=power), width, wider, seed)
    values = []
    for own, goal in zip(rows(s, "hidden.1"), rows(t, "hidden.3"), strict=True):
        q = [torch.stack([sum(abs(x) ** power for x in token) for token in side]) for side in (own, goal)]
        values.append((q[0] / q[0].norm() - q[1] / q[1].norm()).norm() ** 2)
    torch.testing.assert_close(term(s, t, 0.0), torch.stack(values).mean())


def test_laws():
    s, t = features(0), features(1, width=4)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.permutations(range(6)))
def test_is_free_of_scale_sign_and_order_of_the_features(seed, scale, order):
    s, t = features(seed), features(seed + 1)
    torch.testing.assert_close(pure(-scale * s[..., order], t), pure(s, t))
    torch.testing.assert_close(pure(s, scale * t[..., order]), pure(s, t))


def test_power_changes_value_and_gradient():
    seen = []
    for power in (1.5, 2.0, 3.0):
        term, s, t = ready(AT(power=power))
        value = term(s, t, 0.0)
        seen.append((round(value.item(), 9), round(laws.gradients(value, s)["hidden.0"].norm().item(), 9)))
    assert len({v for v, _ in seen}) == len({g for _, g in seen}) == 3


def test_it_has_nothing_to_learn_and_tells_what_it_cannot_use():
    term, *_ = ready(AT())
    assert not list(term.parameters())
    with pytest.raises(UserError, match="power is 1"):
        AT(power=1.0)
    pooled = AT(layer_map=None, taps={"student": "pooled", "teacher": "pooled"})
    with pytest.raises(UserError, match="over the tokens"):
        pooled(laws.output(), laws.output(seed=1), 0.0)
