import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from kdlab.error import UserError
from kdlab.loss.logit.dist import DIST, inter_class, intra_class

ALL = torch.ones(5, dtype=torch.bool)


def correlations(one, two, temperature):
    p, q = ((x.detach() / temperature).softmax(-1).numpy() for x in (one, two))
    return [pearsonr(a, b).statistic for a, b in zip(p, q, strict=True)], [
        pearsonr(a, b).statistic for a, b in zip(p.T, q.T, strict=True)
    ]


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.5, 10), st.integers(3, 7))
def test_agrees_with_scipy(seed, temperature, classes):
    s, t = laws.pair(seed, classes, rows=5)
    rows, columns = correlations(s, t, temperature)
    inter = inter_class(s, t, temperature).detach() / temperature**2
    intra = intra_class(s, t, ALL, temperature).detach() / temperature**2
    torch.testing.assert_close(inter, 1 - torch.tensor(rows, dtype=torch.float64), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(intra, 1 - torch.tensor(columns, dtype=torch.float64), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("pure", [lambda a, b: inter_class(a, b, 2.0), lambda a, b: intra_class(a, b, ALL, 2.0)])
def test_laws(pure):
    s, t = laws.pair(0, 4, rows=5)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)
    laws.ignores_shifts(pure, s, t)


def test_is_free_of_rising_lines_and_a_mirror_is_worst():
    s, _ = laws.pair(0, 4, rows=5)
    p = s.softmax(-1)
    flatter, mirrored = (0.3 * p + 0.7 / 4).log(), (0.5 - 0.4 * p).log()
    torch.testing.assert_close(inter_class(flatter, s, 1.0), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(intra_class(flatter, s, ALL, 1.0), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(inter_class(mirrored, s, 1.0), torch.full((5,), 2.0, dtype=torch.float64))


def test_with_two_classes_a_row_teaches_nothing_and_the_batch_does():
    s, t = laws.pair(0, 2, rows=5)
    (inter,) = torch.autograd.grad(inter_class(s, t, 1.0).sum(), s)
    (intra,) = torch.autograd.grad(intra_class(s, t, ALL, 1.0).sum(), s)
    assert inter.abs().max() < 1e-7 < intra.abs().max()


def test_is_the_sum_over_the_rows_that_count():
    mask = [True, False, True, True, True, True]
    s, t = laws.output(6, 4, seed=0, mask=mask), laws.output(6, 4, seed=1)
    kept = s.mask
    inter = inter_class(s.logits[kept], t.logits[kept], 2.0).mean()
    intra = intra_class(s.logits[kept], t.logits[kept], ALL, 2.0).mean()
    torch.testing.assert_close(DIST(temperature=2.0, inter=3.0, intra=5.0)(s, t, 0.0), 3 * inter + 5 * intra)


def test_every_setting_matters():
    s, t = laws.output(5, 4, seed=0), laws.output(5, 4, seed=1)
    laws.all_differ([DIST(temperature=T, inter=a, intra=b) for T in (1, 2) for a in (1, 2) for b in (1, 3)], s, t)
    for wrong in ({"inter": -1.0}, {"intra": "all"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            DIST(**wrong)


def test_one_class_that_is_the_same_in_all_rows_and_one_row_alone_stay_finite():
    s, t = torch.zeros(1, 3, requires_grad=True), torch.randn(1, 3)
    value = inter_class(s, t, 1.0).sum() + intra_class(s, t, torch.ones(1, dtype=torch.bool), 1.0).sum()
    (gradient,) = torch.autograd.grad(value, s)
    assert value.isfinite() and gradient.isfinite().all()
