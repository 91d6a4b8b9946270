import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layered import features, ready, rows, tokens
from torch.nn.functional import adaptive_avg_pool1d, mse_loss

from kdlab.error import UserError
from kdlab.loss.feature.review import Review, hierarchical_context, segment_means


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 3), st.integers(0, 3), st.integers(1, 6), st.integers(0, 1000))
def test_segments_are_adaptive_pooling_of_the_row_without_its_padding(real, before, after, segments, seed):
    values = torch.randn(
        1, before + real + after, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    mask = torch.tensor([[False] * before + [True] * real + [False] * after])
    expected = adaptive_avg_pool1d(values[:, before : before + real].transpose(1, 2), segments).transpose(1, 2)
    torch.testing.assert_close(segment_means(values, mask, segments), expected)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_the_context_is_the_formula_of_the_paper(seed):
    s, t = laws.output(seed=seed), laws.output(seed=seed + 1)
    values = []
    for own, goal in zip(rows(s, "hidden.0"), rows(t, "hidden.0"), strict=True):
        total, weights = mse_loss(own, goal), 1.0
        for level, weight in ((4, 0.5), (2, 0.25), (1, 0.125)):
            pooled = [adaptive_avg_pool1d(side.T[None], level) for side in (own, goal)]
            total, weights = total + weight * mse_loss(*pooled), weights + weight
        values.append(total / weights)
    torch.testing.assert_close(
        hierarchical_context(s.taps["hidden.0"], t.taps["hidden.0"], s.tokens), torch.stack(values)
    )


def test_laws():
    def pure(s, t):
        return hierarchical_context(s, t, tokens())

    s, t = features(0), features(1)
    laws.zero_at_equality(pure, s)
    laws.never_negative(pure, s, t)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(pure, s, t)


def test_layers_are_fused_from_the_top_down():
    """Written out for two layers: 1 is the top, 0 is fused with it."""
    term, s, t = ready(Review(size=5))
    assert term.pairs == [(1, 3), (0, 1)]
    top, below = term.adapters
    high = top.enter(s.taps["hidden.1"])
    low = below.enter(s.taps["hidden.0"])
    share = torch.sigmoid(torch.cat([low, high], -1) @ below.share.weight.T + below.share.bias)
    fused = low * share[..., :1] + high * share[..., 1:]
    values = [
        hierarchical_context(layer.leave(state), t.taps[f"hidden.{j}"], s.tokens)
        for layer, state, j in ((top, high, 3), (below, fused, 1))
    ]
    torch.testing.assert_close(term(s, t, 0.0), torch.cat(values).mean())


def test_a_deep_layer_learns_from_the_teachers_shallow_one():
    """That is what the review is for: without the top's own part, the top still gets a gradient."""
    term, s, t = ready(Review())
    own = [s.taps["hidden.1"], s.taps["hidden.0"]]
    top, shallow = term.values(own, [t.taps["hidden.3"], t.taps["hidden.1"]], s)
    assert torch.autograd.grad(shallow.sum(), own[0], retain_graph=True)[0].abs().sum() > 0
    assert torch.autograd.grad(top.sum(), own[1], allow_unused=True)[0] is None, "and not the other way round"


def test_order_does_not_depend_on_how_the_pairs_are_named():
    one, s, t = ready(Review(layer_map=[[0, 1], [1, 3]]))
    two, *_ = ready(Review(layer_map=[[1, 3], [0, 1]]))
    assert one.pairs == two.pairs == [(1, 3), (0, 1)]
    torch.testing.assert_close(one(s, t, 0.0), two(s, t, 0.0))


def test_what_it_cannot_do_is_told():
    for choice in ("emd", "attention"):
        with pytest.raises(UserError, match="from the top down"):
            Review(layer_map=choice)
    with pytest.raises(UserError, match="size is 0"):
        Review(size=0)
