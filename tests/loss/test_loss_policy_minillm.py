"""MiniLLM's parts together are the gradient of the reverse KL of whole texts, compared with all texts written out."""

from itertools import product

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.loss.logit.reverse_kl import tempered_reverse_kl
from kdlab.loss.policy.minillm import (
    clipped_surrogate,
    importance_weight,
    later_rewards,
    sampling_log_probability,
    token_reward,
)

VOCABULARY, LENGTH = 3, 3
TEXTS = torch.tensor(list(product(range(VOCABULARY), repeat=LENGTH)))  # every text there is


def model(seed):
    """The logits of the next token after every prefix of up to two tokens, by number of the prefix."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(LENGTH, VOCABULARY**2, VOCABULARY, generator=generator, dtype=torch.float64)


def logits_of(table):
    """Logits ``[texts, L, V]`` that a table gives along every text."""
    prefix = [torch.zeros(len(TEXTS), dtype=torch.long), TEXTS[:, 0], TEXTS[:, 0] * VOCABULARY + TEXTS[:, 1]]
    return torch.stack([table[t, prefix[t]] for t in range(LENGTH)], 1)


def of_tokens(logits):
    return logits.log_softmax(-1).gather(-1, TEXTS[..., None])[..., 0]


def sequence_gradient(student, teacher):
    """The gradient of KL(student || teacher) over whole texts."""
    student = student.clone().requires_grad_()
    log_q, log_p = of_tokens(logits_of(student)).sum(-1), of_tokens(logits_of(teacher)).sum(-1)
    (gradient,) = torch.autograd.grad((log_q.exp() * (log_q - log_p)).sum(), student)
    return gradient


@pytest.mark.parametrize("seed", range(3))
def test_both_parts_are_the_gradient_of_the_reverse_kl_of_texts(seed):
    student, teacher = model(seed).requires_grad_(), model(seed + 10)
    s, t = logits_of(student), logits_of(teacher)
    log_q, log_p = of_tokens(s), of_tokens(t)
    mask = torch.ones_like(TEXTS, dtype=torch.bool)
    advantage = later_rewards(token_reward(log_q, log_p), mask, normalise=False)
    long = clipped_surrogate(log_q, log_q, advantage, clip=0.2)
    single = tempered_reverse_kl(s, t, 1.0)
    chance = log_q.sum(-1).exp().detach()  # of each text under the student
    (found,) = torch.autograd.grad((chance[:, None] * (single + long)).sum(), student)
    torch.testing.assert_close(found, sequence_gradient(student.detach(), teacher))


def test_teacher_mixed_sampling_is_corrected_by_weights_of_whole_prefixes():
    """With the product of the weights up to each token it is exact; MiniLLM takes that of the token alone."""
    student, teacher, share = model(0).requires_grad_(), model(10), 0.2
    s, t = logits_of(student), logits_of(teacher)
    log_q, log_p = of_tokens(s), of_tokens(t)
    drawn = sampling_log_probability(log_q.detach(), log_p, share)
    weight = importance_weight(log_q, drawn)
    assert (weight <= 1 / (1 - share) + 1e-12).all()
    upto = weight.cumprod(-1)
    before = torch.cat([torch.ones_like(upto[:, :1]), upto[:, :-1]], -1)
    # the rewards after a token, each with the weights between: written out, as the surrogate has the token's own
    reward = token_reward(log_q, log_p)
    after = torch.zeros_like(reward)
    for i in range(LENGTH):
        for j in range(i + 1, LENGTH):
            after[:, i] += reward[:, j] * (upto[:, j] / upto[:, i])
    long = clipped_surrogate(log_q, drawn, after, clip=1e9)
    chance = drawn.sum(-1).exp()
    total = (chance[:, None] * before * (tempered_reverse_kl(s, t, 1.0) + long)).sum()
    (found,) = torch.autograd.grad(total, student)
    torch.testing.assert_close(found, sequence_gradient(student.detach(), teacher))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_the_advantage_is_the_mean_of_what_follows_and_reads_no_padding(seed, lengths):
    reward = torch.randn(len(lengths), 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    found = later_rewards(reward, mask)
    total = later_rewards(reward, mask, normalise=False)
    for row, length in enumerate(lengths):
        for t in range(7):
            rest = reward[row, t + 1 : length] if t < length else reward[row, :0]
            torch.testing.assert_close(found[row, t], rest.mean() if len(rest) else reward.new_zeros(()))
            torch.testing.assert_close(total[row, t], rest.sum())
    for garbage in laws.GARBAGE:
        assert torch.equal(later_rewards(reward.where(mask, garbage), mask), found)


def test_the_mean_reward_is_minus_the_reverse_kl_and_has_a_limit():
    s, t = laws.pair(0, 5)
    reward = token_reward(s.log_softmax(-1), t.log_softmax(-1))
    torch.testing.assert_close((s.softmax(-1) * reward).sum(-1), -tempered_reverse_kl(s, t, 1.0))
    assert not reward.requires_grad
    assert token_reward(torch.zeros(1), torch.tensor([-torch.inf]), limit=3.0).item() == -3.0


def test_the_mean_weight_is_one():
    s, t = (one.detach().log_softmax(-1) for one in laws.pair(0, 5))
    drawn = sampling_log_probability(s, t, 0.2)
    torch.testing.assert_close((drawn.exp() * importance_weight(s, drawn)).sum(-1), torch.ones(4, dtype=torch.float64))
    assert torch.equal(sampling_log_probability(s, t, 0.0), s) and torch.equal(sampling_log_probability(s, t, 1.0), t)


@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_a_ratio_that_went_too_far_the_right_way_has_no_gradient(gain):
    sampling = torch.zeros(5, dtype=torch.float64)
    student = torch.tensor([-1.0, -0.1, 0.0, 0.1, 1.0], dtype=torch.float64, requires_grad=True)
    loss = clipped_surrogate(student, sampling, torch.full((5,), gain, dtype=torch.float64), clip=0.2)
    (slope,) = torch.autograd.grad(loss.sum(), student)
    assert (slope != 0).tolist() == ([True] * 4 + [False] if gain > 0 else [False] + [True] * 4)
    torch.testing.assert_close(slope[2], torch.tensor(-gain, dtype=torch.float64))


@pytest.mark.parametrize("half", laws.HALVES)
def test_half_precision_is_computed_in_float32(half):
    low = torch.tensor([[-0.5, -3.0]]).to(half)
    wide = low.float()
    mask = torch.ones(1, 2, dtype=torch.bool)
    with torch.autocast("cpu", half):
        found = [
            token_reward(low, low), later_rewards(low, mask), sampling_log_probability(low, low / 2, 0.2),
            importance_weight(low, low / 2), clipped_surrogate(low, low / 2, low),
        ]  # fmt: skip
    plain = [
        token_reward(wide, wide), later_rewards(wide, mask), sampling_log_probability(wide, wide / 2, 0.2),
        importance_weight(wide, wide / 2), clipped_surrogate(wide, wide / 2, wide),
    ]  # fmt: skip
    for one, two in zip(found, plain, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, two)
