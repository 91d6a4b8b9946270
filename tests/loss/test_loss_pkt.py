import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from scipy.special import rel_entr

from kdlab.loss.relation.pkt import PKT, neighbour_divergence, neighbours

ALL = torch.ones(5, dtype=torch.bool)


def pair(seed=0, rows=5):
    return laws.output(rows=rows, seed=seed).taps["pooled"], laws.output(rows=rows, seed=seed + 1, width=4).taps[
        "pooled"
    ]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 7))
def test_is_the_formula_of_the_paper(seed, rows):
    """Sum over j of p log(p / q), p the share of K(i, j) = (cos + 1) / 2 among all other rows, with scipy and loops."""
    s, t = pair(seed, rows)

    def shares(x, i):
        x = x.detach().numpy()
        kernel = [(2 - cosine(x[i], x[j])) / 2 for j in range(rows) if j != i]
        return torch.tensor([k / sum(kernel) for k in kernel], dtype=torch.float64)

    expected = [rel_entr(shares(t, i).numpy(), shares(s, i).numpy()).sum() for i in range(rows)]
    value = neighbour_divergence(s, t, ALL[:1].expand(rows))
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=1e-5)


def test_laws():
    s, t = pair()

    def pure(a, b):
        return neighbour_divergence(a, b, ALL)

    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(5)))
def test_is_free_of_each_rows_length_of_rotation_and_of_order(seed, order):
    s, t = pair(seed)
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator))
    lengths = 10 ** (4 * torch.rand(5, 1, dtype=torch.float64, generator=generator) - 2)
    value = neighbour_divergence(s, t, ALL)
    torch.testing.assert_close(neighbour_divergence(lengths * s @ rotation, t, ALL), value)
    torch.testing.assert_close(neighbour_divergence(s, lengths * t, ALL), value)
    torch.testing.assert_close(neighbour_divergence(s[order], t[order], ALL), value[order])


def test_the_probabilities_of_the_rows_that_count_sum_to_one():
    s, _ = pair()
    mask = torch.tensor([True, True, False, True, False])
    chosen = neighbours(s, mask)[mask][:, mask]
    torch.testing.assert_close(chosen.sum(-1) - chosen.diagonal(), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("rows", [1, 2])
def test_with_one_other_row_there_is_nothing_to_choose(rows):
    s, t = pair(rows=rows)
    torch.testing.assert_close(neighbour_divergence(s, t, ALL[:rows]), torch.zeros(rows, dtype=torch.float64))


def test_opposite_rows_are_harmless():
    s = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    value = neighbour_divergence(s, torch.randn(3, 2), ALL[:3]).sum()
    (gradient,) = torch.autograd.grad(value, s)
    assert value.isfinite() and gradient.isfinite().all()


def test_masked_rows_and_padding_do_not_matter():
    term = PKT(taps={"student": "hidden.-1", "teacher": "pooled"})
    laws.masked_rows_do_not_matter(term, laws.output(mask=[True, False, True, True]), laws.output(seed=1, width=4))
