import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.error import UserError
from kdlab.loss.relation.fsp import FSP, flow, flow_difference
from kdlab.loss.term import ModelSpec

TAPS = {"student": ["embedding", "hidden.-1"], "teacher": ["hidden.0", "hidden.-1"]}


def layers(seed=0, rows=3, widths=(2, 3)):
    out = [laws.output(rows=rows, seed=seed + i, width=width) for i, width in enumerate(widths)]
    return (out[0].taps["hidden.0"], out[1].taps["hidden.0"]), out[0].tokens


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_is_the_formula_of_the_paper(seed, m, n):
    """G(i, j) = sum over positions of F1 F2 / their number; then the mean squared difference, with loops."""
    (s1, s2), tokens = layers(seed, widths=(m, n))
    (t1, t2), _ = layers(seed + 10, widths=(m, n))

    def matrix(first, second, row):
        real = [p for p in range(laws.LENGTH) if tokens[row, p]]
        return [
            [sum(first[row, p, i] * second[row, p, j] for p in real) / len(real) for j in range(n)] for i in range(m)
        ]

    for row, value in enumerate(flow_difference((s1, s2), (t1, t2), tokens)):
        mine, theirs = matrix(s1, s2, row), matrix(t1, t2, row)
        expected = sum((mine[i][j] - theirs[i][j]) ** 2 for i in range(m) for j in range(n)) / (m * n)
        torch.testing.assert_close(value, expected)


def test_laws():
    (s1, s2), tokens = layers()
    (t1, t2), _ = layers(10)

    def first(a, b):
        return flow_difference((a, s2.detach().bfloat16().to(a.dtype)), (b, s2.detach().bfloat16().to(a.dtype)), tokens)

    def second(a, b):
        return flow_difference((s1.detach().bfloat16().to(a.dtype), a), (s1.detach().bfloat16().to(a.dtype), b), tokens)

    for pure, s, t in ((first, s1, t1), (second, s2, t2)):
        laws.zero_at_equality(pure, s)
        laws.never_negative(pure, s, t)
        laws.gradient_is_right(pure, s, t)
        laws.stays_finite(pure, s, t)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(laws.LENGTH)))
def test_is_free_of_a_rotation_of_both_models_and_of_the_order_of_tokens(seed, order):
    (s1, s2), tokens = layers(seed, widths=(4, 4))
    (t1, t2), _ = layers(seed + 10, widths=(4, 4))
    value = flow_difference((s1, s2), (t1, t2), tokens)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    turned = flow_difference((s1 @ rotation, s2 @ rotation), (t1 @ rotation, t2 @ rotation), tokens)
    torch.testing.assert_close(turned, value)
    moved = [x[:, order] for x in (s1, s2, t1, t2)]
    torch.testing.assert_close(flow_difference((moved[0], moved[1]), (moved[2], moved[3]), tokens[:, order]), value)
    torch.testing.assert_close(flow(s1, s2, tokens).transpose(1, 2), flow(s2, s1, tokens))


def test_a_list_of_taps_is_the_mean_over_its_neighbours():
    names = ["embedding", "hidden.0", "hidden.-1"]
    s, t = laws.output(), laws.output(seed=1)
    parts = [FSP(taps={"student": two, "teacher": two})(s, t, 0.0) for two in (names[:2], names[1:])]
    torch.testing.assert_close(FSP(taps={"student": names, "teacher": names})(s, t, 0.0), sum(parts) / 2)


@pytest.mark.parametrize("wider", [4, 6])
def test_masked_rows_and_padding_do_not_matter(wider):
    term = FSP(taps=TAPS)
    term.build_adapters(
        ModelSpec(dict.fromkeys(TAPS["student"], 4)), ModelSpec(dict.fromkeys(TAPS["teacher"], wider)), 8
    )
    assert len(list(term.parameters())) == (0 if wider == 4 else 4)
    student, teacher = laws.output(mask=[True, False, True, True], width=4), laws.output(seed=1, width=wider)
    laws.masked_rows_do_not_matter(term.double(), student, teacher)


def test_what_cannot_be_compared_is_told():
    two = ["embedding", "hidden.0"]
    bad = (["hidden.0"], ["hidden.0"]), ("hidden.0", "hidden.1"), (two, [*two, "hidden.1"]), (["embedding", 1],) * 2
    for taps in ({"student": two}, *({"student": mine, "teacher": theirs} for mine, theirs in bad)):
        with pytest.raises(UserError, match="at least two"):
            FSP(taps=taps)
    s, t = laws.output(), laws.output(seed=1)
    with pytest.raises(UserError, match="a vector for each of the tokens"):
        FSP(taps={"student": ["embedding", "pooled"], "teacher": ["embedding", "pooled"]})(s, t, 0.0)
    with pytest.raises(UserError, match="offers embedding"):
        FSP(taps=TAPS).build_adapters(ModelSpec({"embedding": 3}), ModelSpec({"embedding": 3}), 8)
