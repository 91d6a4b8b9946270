"""Cross-entropy with the teacher, where the classes that are not the target are normalised among themselves."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.divergence import expectation, soften
from kdlab.loss.logit.target import apart, target
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at, within


def normalised_kd(student: Tensor, teacher: Tensor, target: Tensor, temperature: float, gamma: float) -> Tensor:
    """-T_t log S_t - gamma * T^2 * sum over the others of N(T_i) log N(S_i), in nats, per position.

    S and T are probabilities without temperature at the target t; N normalises those of the others at the temperature.

    Args:
        student, teacher: logits ``[..., C]`` with C >= 2; half precision is computed in float32.
        target: class numbers ``[...]``.
        temperature: > 0, of the others alone.
        gamma: >= 0, the weight of the others.

    Returns:
        ``[...]``, >= gamma * T^2 * the entropy of the teacher's others. It falls as the student's probability of the
        target rises to 1, so it is not least where the two agree.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.8, 0.2]).log()
        >>> normalised_kd(student, teacher, torch.tensor(0), 1.0, 1.5)  # 0.8 log 2; a single other class adds 0
        tensor(0.5545)

    Source: Yang et al. 2023 (NKD), arXiv:2303.13005, section 3, without the student's own cross-entropy.
    """
    index = target[..., None]
    log_s, log_t = (soften(logits, 1.0).gather(-1, index) for logits in (student, teacher))
    (_, s_others), (_, t_others) = (apart(logits, target, temperature) for logits in (student, teacher))
    others = expectation(t_others, s_others).sum(-1)
    return -expectation(log_t, log_s).squeeze(-1) - gamma * temperature**2 * others


@final
class NKD(Term):
    """The mean of :func:`normalised_kd`, for single-label tasks.

    Rows without a label take the teacher's most likely class for it.

    Formula: ``-p_t(y) log p_s(y) - gamma T^2 sum_{c != y} q_t(c) log q_s(c)``; q is p without the target y, at the
        temperature.
    When: many classes, where target and others are to be weighed apart; with two classes only the first part teaches.
    Cost: no parameters; two softmaxes a side; reads the label.

    Args:
        weight, temperature: numbers or schedules.
        gamma: >= 0, the weight of the classes that are not the target, a number or a schedule.
    """

    outcome = Choice
    reads_labels = True

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        gamma: float | Schedule = 1.5,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")
        self.gamma = within(gamma, 0, 1e6, "gamma", "it weighs the other classes, and the paper takes 1.5")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        right, gamma = target(student, teacher), value_at(self.gamma, progress)
        temperature = value_at(self.temperature, progress)
        return student.mean(normalised_kd(student.logits, teacher.logits, right, temperature, gamma))
