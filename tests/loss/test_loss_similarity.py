import laws
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.loss.relation.similarity import Similarity, similarity, similarity_difference


def pair(seed=0, rows=5):
    return laws.output(rows=rows, seed=seed).taps["pooled"], laws.output(rows=rows, seed=seed + 1, width=4).taps[
        "pooled"
    ]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 7))
def test_is_the_formula_of_the_paper(seed, rows):
    """|| G_T - G_S ||_F^2 / b^2, G = Q Q^T with each row divided by its norm."""
    s, t = pair(seed, rows)

    def normalised(x):
        gram = x.detach().numpy() @ x.detach().numpy().T
        return gram / np.linalg.norm(gram, axis=1, keepdims=True)

    expected = np.linalg.norm(normalised(t) - normalised(s), "fro") ** 2 / rows**2
    value = similarity_difference(s, t, torch.ones(rows, dtype=torch.bool)).mean()
    np.testing.assert_allclose(value.item(), expected, rtol=1e-8, atol=1e-14)


def test_laws():
    s, t = pair()
    every = torch.ones(5, dtype=torch.bool)

    def pure(a, b):
        return similarity_difference(a, b, every)

    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.permutations(range(5)))
def test_is_free_of_scale_rotation_and_order(seed, scale, order):
    s, t = pair(seed)
    every = torch.ones(5, dtype=torch.bool)
    value = similarity_difference(s, t, every)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    torch.testing.assert_close(similarity_difference(scale * s @ rotation, t, every), value)
    torch.testing.assert_close(similarity_difference(s, -scale * t, every), value)
    torch.testing.assert_close(similarity_difference(s[order], t[order], every), value[order])


def test_rows_outside_the_mask_are_as_if_they_were_not_there():
    s, t = pair()
    mask = torch.tensor([True, False, True, True, False])
    inside = similarity_difference(s[mask], t[mask], torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(similarity_difference(s, t, mask)[mask], inside)
    assert (similarity(s, mask)[~mask] == 0).all()


def test_masked_rows_and_padding_do_not_matter():
    term = Similarity(taps={"student": "hidden.-1", "teacher": "pooled"})
    laws.masked_rows_do_not_matter(term, laws.output(mask=[True, False, True, True]), laws.output(seed=1, width=4))
