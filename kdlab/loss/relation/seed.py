"""Contrastive self-supervised distillation: how similar a text is to many others, as the teacher sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.relation.rows import pool, unit
from kdlab.loss.term import ModelSpec, Term, pair, width
from kdlab.output import Output
from kdlab.precision import exact
from kdlab.schedule.base import Schedule, positive, value_at


@exact()
def similarity_cross_entropy(
    student: Tensor, teacher: Tensor, queue: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Cross-entropy between the softened similarities to the queue and to the teacher's own vector, in nats a row.

    Args:
        student, teacher: unit vectors ``[B, D]``, float32 or wider.
        queue: unit vectors ``[K, D]`` of the teacher.

    Returns:
        ``[B]``, > 0; least where the student's distribution is the teacher's.

    Example:
        >>> vector = torch.tensor([[1.0, 0.0]])
        >>> similarity_cross_entropy(vector, vector, vector, 0.2, 0.1)  # two equal choices: log 2
        tensor([0.6931])

    Source: Fang et al. 2021 (SEED), arXiv:2101.04731, section 3.2.
    """
    teacher_scores = torch.cat([(teacher * teacher).sum(-1, keepdim=True), teacher @ queue.T], -1) / teacher_temperature
    student_scores = torch.cat([(student * teacher).sum(-1, keepdim=True), student @ queue.T], -1) / student_temperature
    return -(teacher_scores.softmax(-1) * student_scores.log_softmax(-1)).sum(-1)


@final
class Seed(Term):
    """The mean of :func:`similarity_cross_entropy`, against a queue of the teacher's vectors of earlier rows.

    No label is needed. The queue begins with random unit vectors, takes in each training batch after it was used, and
    is checkpointed. A linear projection, which learns, takes the student's vectors to the teacher's width.

    Formula: ``-sum_k softmax_k(t . q_k / T_t) log softmax_k(s . q_k / T_s)`` over a queue q and the teacher's own
        vector.
    When: no labels at all: an encoder learns from a larger encoder.
    Cost: a linear map of ``D_s D_t`` parameters and a queue of K D_t numbers in every checkpoint; B K numbers a step.

    Args:
        weight, student_temperature, teacher_temperature: numbers or schedules.
        size: of the queue; 65,536 in the paper, for a million images.
        taps: ``{student: NAME, teacher: NAME}``, each ``[B, D]``, or ``[B, L, D]``, averaged over the real tokens.
    """

    row_wise = False

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        student_temperature: float | Schedule = 0.2,
        teacher_temperature: float | Schedule = 0.01,
        size: int = 4096,
        taps: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(size, int) or size < 1:
            raise UserError(f"size is {size!r}, but the queue holds a whole number of vectors above 0")
        self.weight, self.size = weight, size
        self.student_temperature = positive(student_temperature, "student_temperature")
        self.teacher_temperature = positive(teacher_temperature, "teacher_temperature")
        self.taps = pair(taps or {"student": "pooled", "teacher": "pooled"})

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        wide = width(teacher, self.taps["teacher"][0], "teacher")
        self.adapter = nn.Linear(width(student, self.taps["student"][0], "student"), wide)
        self.queue: Tensor
        self.next: Tensor
        self.register_buffer("queue", unit(torch.randn(self.size, wide)))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        features = pool(student, self.taps["student"][0], "student")
        student_vector = unit(self.adapter(features))
        teacher_vector = unit(pool(teacher, self.taps["teacher"][0], "teacher").detach())
        values = similarity_cross_entropy(
            student_vector,
            teacher_vector,
            self.queue.to(teacher_vector),
            value_at(self.student_temperature, progress),
            value_at(self.teacher_temperature, progress),
        )
        if self.training and torch.is_grad_enabled():
            self._take_in(teacher_vector, student.mask)
        return student.mean(values)

    def _take_in(self, vectors: Tensor, mask: Tensor) -> None:
        """Put the newest vectors in the place of the oldest; the places of rows that do not count stay as they are."""
        vectors, mask = vectors[-self.size :], mask[-self.size :]
        slots = (self.next + torch.arange(len(vectors), device=self.queue.device)) % self.size
        fresh = vectors.to(self.queue).where(mask[:, None], self.queue[slots])
        self.queue = self.queue.index_copy(0, slots, fresh)
        self.next = (self.next + len(vectors)) % self.size
