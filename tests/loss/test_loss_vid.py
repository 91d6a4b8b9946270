import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layered import features, ready
from scipy.stats import norm

from kdlab.error import UserError
from kdlab.loss.feature.vid import VID, gaussian_nll

VARIANCE = torch.tensor([0.1, 0.5, 1.0, 2.0, 3.0, 10.0], dtype=torch.float64)


def pure(mean, teacher):
    return gaussian_nll(mean, VARIANCE, teacher)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_agrees_with_scipy(seed):
    s, t = features(seed).detach(), features(seed + 1).detach()
    expected = -norm.logpdf(t, loc=s, scale=VARIANCE.sqrt()).mean(-1)
    torch.testing.assert_close(pure(s, t), torch.tensor(expected))


def test_laws():
    s, t = features(0), features(1)
    laws.gradient_is_right(pure, s, t)
    laws.stays_finite(lambda a, b: gaussian_nll(a, VARIANCE.float(), b), s, t)
    assert torch.autograd.gradcheck(gaussian_nll, (s, VARIANCE.clone().requires_grad_(), t))
    least = pure(s, s)
    torch.testing.assert_close(least, ((2 * torch.pi * VARIANCE).log() / 2).mean().expand_as(least))
    assert (pure(s, t) > least).all()


@pytest.mark.parametrize("variance", [0.01, 1.0, 5.0])
def test_variances_start_where_they_are_told(variance):
    term, s, t = ready(VID(variance=variance))
    for guess in term.adapters:
        torch.testing.assert_close(guess.variance, torch.full((6,), variance).double(), rtol=1e-5, atol=0)
    own = [guess.mean(s.taps[f"hidden.{i}"]) for i, guess in enumerate(term.adapters)]
    pairs = zip(own, term.pairs, term.adapters, strict=True)
    values = [s.mean(gaussian_nll(o, guess.variance, t.taps[f"hidden.{j}"])) for o, (_, j), guess in pairs]
    torch.testing.assert_close(term(s, t, 0.0), sum(values) / 2)


def test_the_variance_learns_how_far_the_guess_is_off():
    """With the mean held, the best variance is the mean squared error of each feature."""
    term, s, t = ready(VID(layer_map=None, taps={"student": "pooled", "teacher": "pooled"}))
    (guess,) = term.adapters
    optimizer = torch.optim.Adam([guess.raw], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        term(s, t, 0.0).backward()
        optimizer.step()
    expected = (guess.mean(s.taps["pooled"]) - t.taps["pooled"]).square().mean(0)
    torch.testing.assert_close(guess.variance, expected, rtol=1e-2, atol=1e-3)


def test_a_variance_out_of_range_is_told():
    for wrong in (0.0, -1.0, 1e9):
        with pytest.raises(UserError, match="variance is"):
            VID(variance=wrong)
