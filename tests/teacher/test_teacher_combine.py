"""Laws of combining several teachers, on whatever they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy
from small import options

from kdlab.config import conf, instantiate
from kdlab.error import UserError
from kdlab.outcome import Bernoulli, Categorical
from kdlab.teacher.combine.base import confidence, entropy
from kdlab.teacher.combine.base import mixed as averaged
from kdlab.teacher.combine.entropy import Entropy
from kdlab.teacher.combine.mean import Mean
from kdlab.teacher.combine.routed import Routed
from kdlab.teacher.combine.weighted import Weighted

OPTIONS = options("teacher/combine")
SHAPE = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 4), st.booleans(), st.integers(0, 99))


def outcome(multi):
    return Bernoulli() if multi else Categorical()


def spoken(logits, multi):
    return outcome(multi).log_probabilities(logits)


def mixed(log_p, weights, multi):
    return outcome(multi).logits(averaged(log_p, weights))


def made(option: str, members: int):
    node = OmegaConf.load(conf() / f"teacher/combine/{option}.yaml")
    if "weights" in node:
        node.weights = {str(index): index + 1.0 for index in range(members)}
    combine = instantiate.make(node)
    combine.prepare([str(index) for index in range(members)])
    return combine


def draw(members: int, rows: int, classes: int, multi: bool, seed: int, scale: float = 3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(members, rows, classes, generator=generator, dtype=torch.float64)
    state = torch.randint(-1, 2, (rows, classes if multi else 1), generator=generator)
    return logits, state


@pytest.mark.parametrize("option", OPTIONS)
@given(shape=SHAPE)
def test_weights_are_shares_and_members_that_agree_are_heard_as_one(option, shape):
    logits, state = draw(*shape)
    combine, multi = made(option, len(logits)), shape[3]
    weights = combine.weights(spoken(logits, multi), state)
    assert weights.shape == logits.shape[:2] and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(shape[1], dtype=torch.float64))
    same = logits[:1].expand_as(logits)
    said = mixed(spoken(same, multi), combine.weights(spoken(same, multi), state), multi)
    torch.testing.assert_close(spoken(said, multi), spoken(logits[0], multi))


@pytest.mark.parametrize("option", OPTIONS)
@given(shape=SHAPE)
def test_the_order_of_the_members_does_not_matter(option, shape):
    if option == "weighted":
        return  # goes by name
    logits, state = draw(*shape)
    combine, multi = made(option, len(logits)), shape[3]
    one, two = (spoken(part, multi) for part in (logits, logits.flip(0)))
    torch.testing.assert_close(
        mixed(one, combine.weights(one, state), multi), mixed(two, combine.weights(two, state), multi)
    )


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("multi", [False, True])
def test_what_is_combined_stays_finite_at_extremes(option, multi):
    logits, state = draw(3, 4, 3, multi, 0, scale=1.0)
    for dtype in (torch.float32, torch.bfloat16):
        extreme = (1e4 * logits.sign()).to(dtype)
        log_p = spoken(extreme, multi)
        said = mixed(log_p, made(option, 3).weights(log_p, state), multi)
        assert said.dtype == torch.float32 and not said.isnan().any()
        assert spoken(said, multi).exp().isfinite().all()


def test_the_mean_is_that_of_probabilities_and_its_logits_are_their_logarithms():
    logits, state = draw(3, 5, 4, False, 1)
    log_p = spoken(logits, False)
    said = mixed(log_p, Mean().weights(log_p, state), False)
    np.testing.assert_allclose(said.exp(), softmax(logits.numpy(), -1).mean(0))
    logits, state = draw(3, 5, 4, True, 1)
    log_p = spoken(logits, True)
    said = mixed(log_p, Mean().weights(log_p, state), True)
    torch.testing.assert_close(said.sigmoid(), logits.sigmoid().mean(0))


def test_fixed_weights_go_by_name_and_by_ratio():
    logits, state = draw(2, 5, 3, False, 2)
    log_p = spoken(logits, False)
    for scale in (1.0, 10.0):
        combine = Weighted({"b": 1.0 * scale, "a": 3.0 * scale})
        combine.prepare(["a", "b"])
        said = mixed(log_p, combine.weights(log_p, state), False)
        np.testing.assert_allclose(said.exp(), (0.75 * log_p[0].exp() + 0.25 * log_p[1].exp()).squeeze(1))


def test_entropy_and_confidence_are_those_of_scipy_and_of_numpy():
    logits, _ = draw(2, 5, 3, False, 3)
    p = softmax(logits.numpy(), -1)
    np.testing.assert_allclose(entropy(spoken(logits, False)), scipy_entropy(p, axis=-1))
    np.testing.assert_allclose(confidence(spoken(logits, False)), p.max(-1))
    several = 1 / (1 + np.exp(-logits.numpy()))
    binary = scipy_entropy(np.stack([several, 1 - several]), axis=0).sum(-1)
    np.testing.assert_allclose(entropy(spoken(logits, True)), binary)


def test_the_certain_count_more_and_temperature_says_how_much_more():
    log_p = spoken(torch.tensor([[[5.0, 0.0]], [[0.1, 0.0]]]), False)
    state = torch.tensor([[-1]])
    shares = [float(Entropy(temperature).weights(log_p, state)[0]) for temperature in (100.0, 1.0, 0.1)]
    assert 0.5 < shares[0] < shares[1] < shares[2] < 1
    assert shares[1] == pytest.approx(1 / (1 + np.exp(float(entropy(log_p)[0] - entropy(log_p)[1]))))


def test_a_row_is_routed_to_the_most_confident_and_with_a_label_to_who_is_right():
    sure, wavering = [6.0, 0.0], [0.0, 1.0]
    log_p = spoken(torch.tensor([[sure, sure, sure], [wavering, wavering, wavering]]), False)
    weights = Routed().weights(log_p, torch.tensor([[-1], [0], [1]]))
    assert weights.tolist() == [[1, 1, 0], [0, 0, 1]], "the last row's label is the wavering one's"
    wrong = spoken(torch.tensor([[[6.0, 0.0]], [[1.0, 0.0]]]), False)
    assert Routed().weights(wrong, torch.tensor([[1]])).tolist() == [[0], [1]], "the less wrong where none is right"


@pytest.mark.parametrize(
    ("weights", "said"), [({"a": 1}, "a, b"), ({"a": 0, "b": 0}, "not all of them 0"), ({"a": 1, "b": -1}, "from 0 up")]
)
def test_weights_that_cannot_be(weights, said):
    combine = Weighted(weights)
    with pytest.raises(UserError, match=said):
        combine.prepare(["a", "b"])


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(UserError, match="must be above 0"):
        Entropy(0.0)
