"""How far probabilities are what they claim to be, and how errors fall as unsure answers are left out.

All functions take the rows in any order, and rows of equal confidence count as if their order were drawn at random.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdlab.metric.classification import BINS, calibration, calibration_error

COLDEST, HOTTEST, HALVINGS = 0.05, 20.0, 60  # bounds of a fitted temperature, and steps of its search


def brier(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """``[N]`` squared distance of the probabilities from the answer, ``sum_c (p_c - y_c)^2``, from 0 to 2.

    Args:
        log_probabilities: ``[N, S]``. target: ``[N]`` class numbers.

    Source: Brier 1950, Monthly Weather Review 78(1), equation 2.

    Example:
        >>> brier(torch.tensor([[0.75, 0.25]]).log(), torch.tensor([0]))
        tensor([0.1250])
    """
    probabilities = log_probabilities.exp()
    right = probabilities.gather(1, target[:, None])[:, 0]
    return probabilities.square().sum(1) - 2 * right + 1


def nll(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """``[N]`` negative log likelihood of the answer, in nats.

    Example:
        >>> nll(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([1]))
        tensor([0.6931])
    """
    return -log_probabilities.gather(1, target[:, None])[:, 0]


def adaptive_error(sure: Tensor, right: Tensor, bins: int = BINS) -> Tensor:
    """Expected calibration error in bins that hold equally many answers: a scalar in [0, 1]; NaN without an answer.

    Args:
        sure: ``[N]`` confidences. right: ``[N]`` whether each answer is right.

    Source: Nguyen, O'Connor 2015, EMNLP, section 3.2 (bins of equal size); Nixon et al. 2019, arXiv:1904.01685.

    Example:
        >>> sure, right = torch.tensor([0.9, 0.5, 0.6, 1.0]), torch.tensor([True, False, True, True])
        >>> round(float(adaptive_error(sure, right, bins=2)), 4)
        0.05
    """
    order, even = _by_confidence(sure, right.double())
    gaps = torch.stack([(part.sum()).abs() for part in (even - order).tensor_split(min(bins, max(1, len(order))))])
    return gaps.sum() / len(order)


def classwise_error(probabilities: Tensor, target: Tensor, bins: int = BINS) -> Tensor:
    """The mean over classes of the calibration error of each class's probability, in bins of equal width.

    Args:
        probabilities: ``[N, S]``. target: ``[N]``.

    Source: Kull et al. 2019, arXiv:1910.12656, section 2.

    Example:
        >>> round(float(classwise_error(torch.tensor([[0.75, 0.25]]), torch.tensor([0]))), 4)
        0.25
    """
    errors = [
        calibration_error(calibration(probabilities[:, one].contiguous(), target == one, bins))
        for one in range(probabilities.shape[1])
    ]
    return torch.stack(errors).mean()


def risks(sure: Tensor, right: Tensor) -> Tensor:
    """``[N]`` float64: the share of errors among the 1, 2, …, N answers of the highest confidence.

    Source: El-Yaniv, Wiener 2010, JMLR 11, section 2 (risk and coverage).

    Example:
        >>> risks(torch.tensor([0.9, 0.6]), torch.tensor([True, False])).tolist()
        [0.0, 0.5]
    """
    _, even = _by_confidence(sure, 1 - right.double())
    return even.flip(0).cumsum(0) / torch.arange(1, len(even) + 1, dtype=torch.float64)


def risk_at(risk: Tensor, coverage: float) -> Tensor:
    """The risk of answering this share of the rows, rounded up to whole rows; NaN without a row.

    Args:
        risk: ``[N]``, see :func:`risks`. coverage: in (0, 1].

    Example:
        >>> float(risk_at(torch.tensor([0.0, 0.5, 0.6]), 0.5))
        0.5
    """
    count = -(-round(coverage * len(risk) * 1e6) // 10**6)  # without the last digits of a product of floats
    return risk[max(1, count) - 1] if len(risk) else torch.tensor(torch.nan)


def fit_temperature(logits: Tensor, target: Tensor) -> float:
    """The temperature that logits are divided by so that the answers are likeliest, from 0.05 to 20.

    The mean negative log likelihood is convex in ``1 / T``, so halving finds where its slope changes its sign.

    Args:
        logits: ``[N, S]``; log probabilities will do. target: ``[N]``.

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.

    Example: three of four are right, so the two classes should be ``log 3`` apart:
        >>> logits = torch.tensor([[2.0, 0.0]] * 4)
        >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])) / (2 / 1.0986123), 4)
        1.0
    """
    values = logits.double()
    right = values.gather(1, target[:, None])[:, 0].mean()
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        slope = ((middle * values).softmax(1) * values).sum(1).mean() - right
        low, high = (middle, high) if slope < 0 else (low, middle)
    return 1 / middle


def _by_confidence(sure: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Confidences ``[N]`` from the lowest, and the values in that order, where equal confidences share their mean."""
    sure = sure.double()
    levels, place, count = sure.unique(return_inverse=True, return_counts=True)
    mean = torch.zeros_like(levels).index_add_(0, place, value) / count
    return levels.repeat_interleave(count), mean.repeat_interleave(count)
