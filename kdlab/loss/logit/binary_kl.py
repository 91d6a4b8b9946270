"""Knowledge distillation where every class is a yes or no of its own."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn.functional import logsigmoid

from kdlab.loss.logit.divergence import expectation
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Bernoulli
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, positive, value_at


def binary_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of Bernoulli distributions that are given by their log-odds, in nats, number by number.

    Example:
        >>> import torch
        >>> binary_kl(torch.tensor(0.0), torch.tensor(100.0))  # a certain yes and a coin: log 2
        tensor(0.6931)
    """
    yes = expectation(logsigmoid(teacher), logsigmoid(teacher) - logsigmoid(student))
    no = expectation(logsigmoid(-teacher), logsigmoid(-teacher) - logsigmoid(-student))
    return yes + no


def tempered_binary_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) of each class's Bernoulli at temperature T, in nats, averaged over the classes.

    The average makes it commensurate with binary cross-entropy, which averages too.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        temperature: > 0; both sides are divided by it.

    Returns:
        ``[...]``, >= 0, and 0 where the softened probabilities agree.

    Example:
        >>> import torch
        >>> tempered_binary_kl(torch.tensor([0.0, 0.0]), torch.tensor([100.0, 0.0]), 1.0)  # (log(2) + 0) / 2
        tensor(0.3466)

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2, for the two classes of each label.
    """
    return temperature**2 * binary_kl(
        at_least_float32(student) / temperature, at_least_float32(teacher) / temperature
    ).mean(-1)


@final
class BinaryKL(Term):
    """The mean of :func:`tempered_binary_kl`, for multi-label tasks.

    Formula: ``T^2 mean_c KL(Bernoulli(sigmoid(t_c / T)) || Bernoulli(sigmoid(s_c / T)))``.
    When: several labels a row: the place to start there.
    Cost: no parameters; two sigmoids of a row.

    Args:
        weight, temperature: numbers or schedules.
    """

    outcome = Bernoulli

    def __init__(self, weight: float | Schedule = 1.0, temperature: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        return student.mean(tempered_binary_kl(student.logits, teacher.logits, value_at(self.temperature, progress)))
