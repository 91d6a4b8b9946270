import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.relation.distance import Distance, distance_difference

ALL = torch.ones(5, dtype=torch.bool)


def pair(seed=0, rows=5):
    return laws.output(rows=rows, seed=seed).taps["pooled"], laws.output(rows=rows, seed=seed + 1, width=4).taps[
        "pooled"
    ]


def written_out(s, t, mask):
    """Equations 5 to 8 with loops."""
    rows = [i for i in range(len(s)) if mask[i]]
    pairs = [(i, j) for i in rows for j in rows if i != j]

    def psi(x):
        distance = {(i, j): (x[i] - x[j]).square().sum().sqrt() for i, j in pairs}
        mean = sum(distance.values()) / len(pairs)
        return {p: d / mean for p, d in distance.items()}

    a, b = psi(s), psi(t)
    huber = [0.5 * (a[p] - b[p]) ** 2 if abs(a[p] - b[p]) <= 1 else abs(a[p] - b[p]) - 0.5 for p in pairs]
    return sum(huber) / len(pairs)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 1000),
    st.floats(0.1, 30),
    st.lists(st.booleans(), min_size=5, max_size=5).filter(lambda m: sum(m) > 1),
)
def test_is_the_formula_of_the_paper(seed, stretch, mask):
    s, t = pair(seed)
    s = s * torch.tensor([1.0, 1.0, 1.0, 1.0, stretch])[:, None]
    mask = torch.tensor(mask)
    torch.testing.assert_close(distance_difference(s, t, mask)[mask].mean(), written_out(s, t, mask))


def test_laws():
    s, t = pair()

    def pure(a, b):
        return distance_difference(a, b, ALL)

    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.permutations(range(5)))
def test_is_free_of_scale_shift_rotation_and_order(seed, scale, order):
    s, t = pair(seed)
    value = distance_difference(s, t, ALL)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    torch.testing.assert_close(distance_difference(scale * s @ rotation + 3, t, ALL), value)
    torch.testing.assert_close(distance_difference(s, scale * t - 1, ALL), value)
    torch.testing.assert_close(distance_difference(s[order], t[order], ALL), value[order])


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_equal_rows_and_lone_rows_are_harmless(rows):
    s = torch.zeros(rows, 3, requires_grad=True)
    value = distance_difference(s, torch.randn(rows, 2), torch.ones(rows, dtype=torch.bool)).sum()
    (gradient,) = torch.autograd.grad(value, s)
    assert value.isfinite() and gradient.isfinite().all()
    if rows == 1:
        assert value == 0


@pytest.mark.parametrize("tap", ["pooled", "hidden.-1"])
def test_masked_rows_and_padding_do_not_matter(tap):
    term = Distance(taps={"student": tap, "teacher": tap})
    laws.masked_rows_do_not_matter(term, laws.output(mask=[True, False, True, True]), laws.output(seed=1, width=4))


def test_a_tap_without_a_vector_a_row_is_told():
    s, t = laws.output(), laws.output(seed=1)
    s.taps["pooled"] = torch.zeros(4, 2, 5, 5)
    with pytest.raises(UserError, match="one vector a row"):
        Distance()(s, t, 0.0)
