import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.loss.relation.angle import Angle, angle_difference

ALL = torch.ones(5, dtype=torch.bool)


def pair(seed=0, rows=5):
    return laws.output(rows=rows, seed=seed).taps["pooled"], laws.output(rows=rows, seed=seed + 1, width=4).taps[
        "pooled"
    ]


def written_out(s, t, mask):
    """The mean Huber loss over ordered triples of different rows, with loops."""
    rows = [i for i in range(len(s)) if mask[i]]
    triples = [(i, j, k) for i in rows for j in rows for k in rows if len({i, j, k}) == 3]

    def psi(x, i, j, k):
        a, b = x[i] - x[j], x[k] - x[j]
        return a @ b / (a @ a).sqrt() / (b @ b).sqrt()

    differences = [(psi(s, *triple) - psi(t, *triple)).abs() for triple in triples]
    return sum(d * d / 2 if d <= 1 else d - 0.5 for d in differences) / len(triples)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.lists(st.booleans(), min_size=5, max_size=5).filter(lambda m: sum(m) > 2))
def test_is_the_formula_of_the_paper(seed, mask):
    s, t = pair(seed)
    mask = torch.tensor(mask)
    torch.testing.assert_close(angle_difference(s, t, mask)[mask].mean(), written_out(s, t, mask))


def test_laws():
    s, t = pair()

    def pure(a, b):
        return angle_difference(a, b, ALL)

    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.permutations(range(5)))
def test_is_free_of_scale_shift_rotation_and_order(seed, scale, order):
    s, t = pair(seed)
    value = angle_difference(s, t, ALL)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    torch.testing.assert_close(angle_difference(scale * s @ rotation + 3, t, ALL), value)
    torch.testing.assert_close(angle_difference(s, scale * t - 1, ALL), value)
    torch.testing.assert_close(angle_difference(s[order], t[order], ALL), value[order])


def test_a_right_angle_against_a_straight_one():
    """Rows at (1, 0), (0, 0), (0, 1) against rows on a line: the middle row sees cos 0 and should see cos pi."""
    s = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    t = torch.tensor([[1.0], [0.0], [-1.0]])
    torch.testing.assert_close(angle_difference(s, t, ALL[:3])[1], torch.tensor(0.5))


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_equal_rows_and_too_few_rows_are_harmless(rows):
    s = torch.cat([torch.zeros(rows, 3), torch.ones(1, 3)]).requires_grad_()
    value = angle_difference(s, torch.randn(rows + 1, 2), torch.ones(rows + 1, dtype=torch.bool)).sum()
    (gradient,) = torch.autograd.grad(value, s)
    assert value.isfinite() and gradient.abs().max() < 1e3
    if rows == 1:
        assert value == 0


@pytest.mark.parametrize("tap", ["pooled", "hidden.-1"])
def test_masked_rows_and_padding_do_not_matter(tap):
    term = Angle(taps={"student": tap, "teacher": tap})
    laws.masked_rows_do_not_matter(term, laws.output(mask=[True, False, True, True]), laws.output(seed=1, width=4))
