import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layered import features, ready, rows

from kdlab.error import UserError
from kdlab.loss.feature.pkd import PKD, direction_difference


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["first", "mean"]))
def test_is_the_formula_of_the_paper(seed, token):
    """Equation 7 for one layer, of the state of [CLS]; the sum over layers is a mean here."""
    term, s, t = ready(PKD(token=token), width=6, seed=seed)
    assert term.pairs == [(0, 1)], "the top layer is left to the logits"
    total = 0
    for own, goal in zip(rows(s, "hidden.0"), rows(t, "hidden.1"), strict=True):
        h_s, h_t = (side[0] if token == "first" else side.mean(0) for side in (own, goal))
        total += (h_s / h_s.norm() - h_t / h_t.norm()).norm() ** 2
    torch.testing.assert_close(term(s, t, 0.0), total / 4)


def test_laws():
    s, t = features(0), features(1)
    laws.zero_at_equality(direction_difference, s)
    laws.never_negative(direction_difference, s, t)
    laws.gradient_is_right(direction_difference, s, t)
    laws.stays_finite(direction_difference, s, t)
    torch.testing.assert_close(direction_difference(5 * s, 0.1 * t), direction_difference(s, t))
    assert (direction_difference(s, -s) > 3.99).all()


@pytest.mark.parametrize(
    ("layer_map", "pairs"),
    [
        ("skip", [(i, 2 * i + 1) for i in range(5)]),
        ("last", [(i, 6 + i) for i in range(5)]),
        ([[-1, -1], [0, 3]], [(5, 11), (0, 3)]),
    ],
)
def test_skip_and_last_are_the_papers(layer_map, pairs):
    """BERT of 12 layers into 6: {2, 4, 6, 8, 10} and {7, 8, 9, 10, 11}, counted from 1."""
    term = PKD(layer_map=layer_map)
    term.resolve_layers(6, 12)
    assert term.pairs == pairs


def test_the_first_token_may_stand_behind_padding():
    term, s, t = ready(PKD(), width=6)
    value = term(s, t, 0.0)
    for out in (s, t):
        object.__setattr__(out, "tokens", out.tokens.flip(1))
        for name, tap in out.taps.items():
            order = torch.stack([torch.roll(torch.arange(5), int((~real).sum())) for real in out.tokens])
            out.taps[name] = tap.gather(1, order[..., None].expand_as(tap))
    torch.testing.assert_close(term(s, t, 0.0), value)


def test_what_leaves_no_layer_is_told():
    with pytest.raises(UserError, match=r"none is left: the student's layers are \[0\] and the teacher's \[0, 1, 2\]"):
        PKD().resolve_layers(1, 3)
    with pytest.raises(UserError, match="leaves out the top one"):
        PKD(layer_map="emd")
    with pytest.raises(UserError, match="first, mean"):
        PKD(token="cls")
