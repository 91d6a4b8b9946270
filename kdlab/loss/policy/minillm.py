"""The parts of MiniLLM's objective: a policy gradient of the reverse KL of whole texts that the student wrote.

The gradient has two parts. The first is the reverse KL of the next token, exactly
(:func:`kdlab.loss.logit.reverse_kl.tempered_reverse_kl`). The second tells each token what came of it: the rewards of
the tokens after it (:func:`later_rewards`), as a clipped surrogate (:func:`clipped_surrogate`). Where the teacher had a
part in the sampling (:func:`sampling_log_probability`), :func:`importance_weight` corrects the first part for it.

All functions take log-probabilities of the tokens that were sampled, ``[B, L]``, and never reduce.
Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdlab.loss.logit.divergence import mix
from kdlab.output import at_least_float32


def token_reward(student: Tensor, teacher: Tensor, limit: float = float("inf")) -> Tensor:
    """log p_teacher - log p_student of each sampled token, ``[B, L]``, in nats, without gradient.

    Args:
        student, teacher: log-probabilities of the sampled tokens ``[B, L]``; half precision is computed in float32.
        limit: > 0; the reward is cut to ``[-limit, limit]``, which a token that the teacher rules out (-inf) needs.

    Returns:
        ``[B, L]``; its mean over texts of the student is minus the reverse KL.

    Example:
        >>> token_reward(torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.0]).log(), limit=10.0)
        tensor([ -0.6931, -10.0000])

    Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2.2 (r_t); the limit is of their code.
    """
    reward = at_least_float32(teacher).detach() - at_least_float32(student).detach()
    return reward.clamp(-limit, limit)


def later_rewards(reward: Tensor, mask: Tensor, normalise: bool = True) -> Tensor:
    """The advantage of each token: the mean of the rewards of the tokens after it, ``[B, L]``.

    Args:
        reward: ``[B, L]``; values outside the mask are not read.
        mask: ``[B, L]`` bool, the sampled tokens.
        normalise: divide by the number of these tokens, so that length itself costs nothing; else their sum.

    Returns:
        ``[B, L]``; 0 at the last token of a text and outside the mask.

    Example: the last token is padding:
        >>> later_rewards(torch.tensor([[1.0, 2.0, 4.0, 9.0]]), torch.tensor([[True, True, True, False]]))
        tensor([[3., 4., 0., 0.]])

    Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2.2 (R_{t+1} and its length normalisation). They divide
        by one less than the number of later tokens, which is 0 at the last but one; the number itself makes it a mean.
    """
    kept, counted = at_least_float32(reward).where(mask, 0), mask.to(torch.int64)

    def after(values: Tensor) -> Tensor:
        return values.flip(-1).cumsum(-1).flip(-1) - values

    total, number = after(kept), after(counted)
    mean = total / number.clamp(min=1) if normalise else total
    return mean.where(mask & (number > 0), 0)


def sampling_log_probability(student: Tensor, teacher: Tensor, share: float) -> Tensor:
    """log(share p_teacher + (1 - share) p_student): the distribution that teacher-mixed sampling draws from.

    Args:
        student, teacher: log-probabilities of the same shape, of the sampled tokens ``[B, L]`` or of all ``[..., C]``.
        share: of the teacher, in [0, 1]; 0 is the student alone. The paper takes 0.2.

    Returns:
        The same shape.

    Example:
        >>> sampling_log_probability(torch.tensor([0.5]).log(), torch.tensor([1.0]).log(), 0.2).exp()
        tensor([0.6000])

    Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2.2 (teacher-mixed sampling).
    """
    return mix(at_least_float32(teacher), at_least_float32(student), share)


def importance_weight(student: Tensor, sampling: Tensor, most: float = float("inf")) -> Tensor:
    """p_student / p_sampling of each sampled token, ``[B, L]``, without gradient.

    Args:
        student, sampling: log-probabilities of the sampled tokens ``[B, L]``, today and when they were drawn.
        most: > 0; larger weights are cut to it. Of :func:`sampling_log_probability` with a share they are at most
            ``1 / (1 - share)`` while the student has not moved.

    Returns:
        ``[B, L]`` in ``[0, most]``; its mean over the sampling distribution is 1 where nothing is cut.

    Example:
        >>> importance_weight(torch.tensor([0.5, 0.9]).log(), torch.tensor([0.6, 0.1]).log(), most=2.0)
        tensor([0.8333, 2.0000])

    Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2.2: of one token in place of the product over all
        tokens before it, whose variance is large.
    """
    ratio = at_least_float32(student).detach() - at_least_float32(sampling).detach()
    return ratio.exp().clamp(max=most)


def clipped_surrogate(student: Tensor, sampling: Tensor, advantage: Tensor, clip: float = 0.2) -> Tensor:
    """-min(ratio A, clipped ratio A) with ratio = p_student / p_sampling: its gradient is the policy gradient.

    Args:
        student: log-probabilities of the sampled tokens ``[B, L]``, with gradient.
        sampling: those with which they were drawn ``[B, L]``.
        advantage: ``[B, L]``, such as :func:`later_rewards`.
        clip: > 0; a ratio beyond ``[1 - clip, 1 + clip]`` has no gradient where more of it would look better.

    Returns:
        ``[B, L]``, to be averaged over the sampled tokens.

    Example:
        >>> clipped_surrogate(torch.tensor([0.5, 0.9]).log(), torch.tensor([0.5, 0.5]).log(), torch.tensor([2.0, 1.0]))
        tensor([-2.0000, -1.2000])

    Source: Schulman et al. 2017 (PPO), arXiv:1707.06347, equation 7; Gu et al. 2024 (MiniLLM), arXiv:2306.08543,
        algorithm 1.
    """
    ratio = (at_least_float32(student) - at_least_float32(sampling).detach()).exp()
    gain = at_least_float32(advantage).detach()
    return -torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
