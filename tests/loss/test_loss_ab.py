import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layered import features, ready

from kdlab.error import UserError
from kdlab.loss.feature.ab import AB, boundary_difference


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 3))
def test_is_the_formula_of_the_paper(seed, margin):
    s, t = features(seed), features(seed + 1)
    on = (t > 0).double()
    hinge = on * (margin - s).relu() + (1 - on) * (margin + s).relu()
    torch.testing.assert_close(boundary_difference(s, t, margin), hinge.square().sum(-1) / 6)


def test_laws():
    def pure(s, t):
        return boundary_difference(s, t, 1.0)

    s, t = features(0), features(1)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    torch.testing.assert_close(pure(s, 9 * t), pure(s, t))
    laws.zero_at_equality(lambda a, b: pure(a, b), t.sign() * (1 + t.abs()))
    assert (pure(-t.sign(), t) == 4).all(), "a whole margin on the wrong side"


def test_a_connector_stands_between_even_where_widths_agree():
    term, s, t = ready(AB(layer_map="top"), width=6)
    (connector,) = term.adapters
    expected = boundary_difference(connector(s.taps["hidden.1"]), t.taps["hidden.3"], 1.0)
    torch.testing.assert_close(term(s, t, 0.0), s.mean(expected))
    assert sum(p.numel() for p in term.parameters()) == 6 * 6 + 6


def test_margin_changes_value_and_gradient():
    seen = []
    for margin in (0.5, 1.0, 2.0):
        term, s, t = ready(AB(margin=margin))
        value = term(s, t, 0.0)
        seen.append((round(value.item(), 9), round(laws.gradients(value, s)["hidden.0"].norm().item(), 9)))
    assert len({v for v, _ in seen}) == len({g for _, g in seen}) == 3
    with pytest.raises(UserError, match="margin is 0"):
        AB(margin=0.0)
