"""How closely a student follows its teacher, whatever the labels are.

Source: Stanton et al. 2021, arXiv:2106.05945, section 3.2: fidelity is not accuracy, and both are worth watching.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.direction import declared
from kdlab.error import UserError
from kdlab.loss.logit.binary_kl import tempered_binary_kl
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.top_k_kl import coarsened_kl
from kdlab.metric.base import Evaluator
from kdlab.outcome import Bernoulli, Categorical, Outcome, Real
from kdlab.output import Output
from kdlab.task.base import Task

AGREEMENT = "agreement"  # of an evaluation: the share of predictions that are the teacher's
Compare = Callable[..., Tensor]  # of the student's logits, and what there is of the teacher's


def agreement(student: Tensor, teacher: Tensor) -> Tensor:
    """``[B]`` 1 where both prefer the same class, from logits ``[B, C]``.

    Example:
        >>> agreement(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]]))
        tensor([1., 0.])
    """
    return (student.argmax(-1) == teacher.argmax(-1)).float()


def binary_agreement(student: Tensor, teacher: Tensor) -> Tensor:
    """``[B]`` the share of classes with the same yes or no, from logits ``[B, C]``.

    Example:
        >>> binary_agreement(torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 3.0]]))
        tensor([0.5000])
    """
    return ((student > 0) == (teacher > 0)).float().mean(-1)


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """``[B]`` KL(teacher || student) in nats: the loss at temperature 1.

    Example:
        >>> divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[100.0, 0.0]]))  # log 2
        tensor([0.6931])
    """
    return tempered_kl(student, teacher, 1.0)


def binary_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """``[B]`` the multi-label loss at temperature 1.

    Example:
        >>> binary_divergence(torch.tensor([[0.0]]), torch.tensor([[100.0]]))  # log 2
        tensor([0.6931])
    """
    return tempered_binary_kl(student, teacher, 1.0)


def top_agreement(student: Tensor, index: Tensor, value: Tensor, tail: Tensor) -> Tensor:
    """``[B]`` as :func:`agreement`, from what :class:`kdlab.top_k.TopK` keeps of the teacher's logits.

    Example:
        >>> top_agreement(torch.tensor([[0.0, 1.0]]), torch.tensor([[1]]), torch.tensor([[0.0]]), torch.tensor([0.0]))
        tensor([1.])
    """
    return (student.argmax(-1) == index[..., 0]).float()


def top_divergence(student: Tensor, index: Tensor, value: Tensor, tail: Tensor) -> Tensor:
    """``[B]`` in nats, at most :func:`divergence`: the classes that are not kept are one outcome.

    Example:
        >>> index, value, tail = torch.tensor([[0]]), torch.tensor([[0.0]]), torch.tensor([-torch.inf])
        >>> top_divergence(torch.zeros(1, 4), index, value, tail)  # log 4
        tensor([1.3863])
    """
    return coarsened_kl(student, index, value, tail, 1.0)


class Comparison(Metric):
    """The mean over rows of a function of student's and teacher's logits; NaN before the first row.

    The sum is kept in float64: a mean in float32 stops growing at some millions of tokens.
    """

    full_state_update = False
    total: Tensor
    rows: Tensor

    def __init__(self, compare: Compare) -> None:
        super().__init__()
        self.compare = compare
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, student: Tensor, *teacher: Tensor) -> None:
        """Take in logits ``[B, C]`` of both, or what is kept of the teacher's."""
        self.total += self.compare(student, *teacher).double().sum()
        self.rows += len(student)

    def compute(self) -> Tensor:
        return (self.total / self.rows).float()


class Agreement(Comparison):
    """The more the better."""

    higher_is_better = True


class Divergence(Comparison):
    """The less the better."""

    higher_is_better = False


def fidelity(outcome: Outcome, top_k: bool = False) -> MetricCollection:
    """``fidelity/agreement`` and ``fidelity/kl``; ``update(student_logits, teacher_logits)``.

    Args:
        outcome: what the logits mean.
        top_k: whether the largest of the teacher's logits are kept: ``update(student_logits, index, value, tail)``, the
            tail at temperature 1.
    """
    several = isinstance(outcome, Bernoulli)
    agree: Compare = binary_agreement if several else agreement
    diverge: Compare = binary_divergence if several else divergence
    if top_k:
        agree, diverge = top_agreement, top_divergence
    metrics: dict[str, Metric | MetricCollection] = {
        "fidelity/agreement": Agreement(agree),
        "fidelity/kl": Divergence(diverge),
    }
    return MetricCollection(metrics, compute_groups=False)


@final
class Fidelity(Evaluator):
    """``fidelity/agreement`` and ``fidelity/kl``, on all rows, labelled or not."""

    higher_is_better = declared(fidelity(Categorical()))
    primary = next(iter(higher_is_better))
    needs = ("teacher",)

    def setup(self, task: Task, data: Data) -> None:
        if isinstance(task.outcome, Real):
            raise UserError(
                "metric=fidelity compares probabilities, and the task has none: choose metric=number_fidelity"
            )
        super().setup(task, data)
        self.whole, self.top = fidelity(task.outcome), fidelity(task.outcome, top_k=True)
        self.stored_top = False  # whether the teacher has its largest logits only

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        assert teacher is not None
        self.stored_top = teacher.top is not None
        metrics = self.top if self.stored_top else self.whole
        metrics.update(student.logits[student.mask], *(one[student.mask] for one in teacher.teacher_parts))

    def compute(self) -> dict[str, float]:
        metrics = self.top if self.stored_top else self.whole
        return {name: float(value) for name, value in metrics.compute().items()}
