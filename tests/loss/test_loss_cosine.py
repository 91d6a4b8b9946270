import laws
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layered import features, ready, rows
from scipy.spatial.distance import cosine

from kdlab.loss.feature.cosine import Cosine, cosine_distance


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_agrees_with_scipy(seed):
    term, s, t = ready(Cosine(), width=6, seed=seed)
    values = []
    for own, goal in zip(rows(s, "hidden.1"), rows(t, "hidden.3"), strict=True):
        pairs = zip(own.detach().numpy(), goal.detach().numpy(), strict=True)
        values.append(sum(cosine(x, y) for x, y in pairs) / len(own))
    torch.testing.assert_close(term(s, t, 0.0).item(), sum(values) / 4)


def test_laws():
    s, t = features(0), features(1)
    laws.zero_at_equality(cosine_distance, s)
    laws.never_negative(cosine_distance, s, t)
    laws.gradient_is_right(cosine_distance, s, t)
    laws.stays_finite(cosine_distance, s, t)
    torch.testing.assert_close(cosine_distance(s, -s), torch.full(s.shape[:-1], 2.0, dtype=torch.float64))
    assert (cosine_distance(torch.zeros_like(s), t) == 1).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_is_free_of_scale_and_of_a_common_rotation(seed, scale):
    s, t = features(seed), features(seed + 1)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    torch.testing.assert_close(cosine_distance(scale * s @ rotation, t @ rotation / scale), cosine_distance(s, t))


def test_two_places_of_any_kind_can_be_compared():
    term, s, t = ready(Cosine(layer_map=None, taps={"student": "pooled", "teacher": "pooled"}))
    expected = cosine_distance(term.adapters[0](s.taps["pooled"]), t.taps["pooled"]).mean()
    torch.testing.assert_close(term(s, t, 0.0), expected)
