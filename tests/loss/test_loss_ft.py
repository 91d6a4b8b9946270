import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layered import features, ready, rows, tokens

from kdlab.error import UserError
from kdlab.loss.feature.ft import FT, factor_difference


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1.0, 2.0]), st.sampled_from([0.5, 1.0]), st.integers(1, 6))
def test_is_the_formula_of_the_paper_plus_the_reconstruction(seed, power, rate, width):
    term, s, t = ready(FT(rate=rate, power=power), width, 6, seed)
    factors = term.adapters[0]
    values = []
    for own, goal in zip(rows(s, "hidden.1"), rows(t, "hidden.3"), strict=True):
        f_t, f_s = factors.compress(goal), factors.translate(own)
        assert f_t.shape[-1] == rate * 6
        distance = (f_t / f_t.norm() - f_s / f_s.norm()).abs() ** power
        values.append(distance.sum() / f_t.numel() ** (1 - power / 2) + (factors.restore(f_t) - goal).square().mean())
    torch.testing.assert_close(term(s, t, 0.0), torch.stack(values).mean())


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_laws(power):
    def pure(s, t):
        return factor_difference(s, t, tokens(), power)

    s, t = features(0), features(1)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    torch.testing.assert_close(pure(7 * s, 0.1 * t), pure(s, t))


def test_the_paraphraser_learns_from_the_teacher_alone():
    term, s, t = ready(FT())
    (factors,) = term.adapters
    term(s, t, 0.0).backward()
    with torch.no_grad():
        for out in s.taps.values():
            out.mul_(-3)
    before = [p.grad.clone() for side in (factors.compress, factors.restore) for p in side.parameters()]
    translator = [p.grad.clone() for p in factors.translate.parameters()]
    term.zero_grad()
    term(s, t, 0.0).backward()
    after = [p.grad for side in (factors.compress, factors.restore) for p in side.parameters()]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert not torch.equal(translator[0], next(factors.translate.parameters()).grad)


def test_both_parts_can_be_learned():
    term, s, t = ready(FT(rate=1.0))
    optimizer = torch.optim.Adam([*term.parameters(), s.taps["hidden.1"]], lr=0.02)
    first = term(s, t, 0.0).item()
    for _ in range(150):
        optimizer.zero_grad()
        term(s, t, 0.0).backward()
        optimizer.step()
    assert term(s, t, 0.0) < 0.2 * first


def test_vectors_of_rows_will_do_and_settings_out_of_range_are_told():
    term = FT(layer_map=None, taps={"student": "pooled", "teacher": "pooled"})
    term, s, t = ready(term)
    assert term(s, t, 0.0) > 0
    for wrong in ({"rate": 0.0}, {"rate": 1.5}, {"power": 0.5}):
        with pytest.raises(UserError, match="rate must be"):
            FT(**wrong)
