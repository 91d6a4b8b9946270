"""Inner layers that learn from the deepest one of the same net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdlab.error import UserError
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.relation.rows import pool
from kdlab.loss.term import ModelSpec, Term, width
from kdlab.outcome import Choice
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, bounds, format_range, positive, value_at


def deep_to_shallow(shallow: Tensor, deep: Tensor, label: Tensor, temperature: float, alpha: float) -> Tensor:
    """``(1 - alpha) * CE(label) + alpha * T^2 KL(deep || shallow)`` per row; no CE where the label is -1.

    Args:
        shallow: logits ``[B, C]`` of an inner layer's head.
        deep: logits ``[B, C]`` of the model; half precision is computed in float32.
        label: ``[B]`` class numbers, -1 unlabelled.

    Returns:
        ``[B]``, >= 0.

    Example:
        >>> logits = torch.zeros(1, 2)
        >>> deep_to_shallow(logits, logits, torch.tensor([0]), 2.0, 0.5)  # log(2) / 2, and no KL
        tensor([0.3466])

    Source: Zhang et al. 2019 (Be Your Own Teacher), arXiv:1905.08094, equation 4, without its loss from features.
    """
    known = cross_entropy(at_least_float32(shallow), label.clamp(min=0), reduction="none").where(label >= 0, 0)
    return (1 - alpha) * known + alpha * tempered_kl(shallow, deep, temperature)


@final
class DeepToShallow(Term):
    """The mean of :func:`deep_to_shallow` over inner layers, each with a linear head of its own that learns with it.

    The heads read a layer's mean over the real tokens; they are checkpointed and never exported. The teacher is not
    looked at, and none is needed.

    Formula: ``mean_l (1 - alpha) CE(g_l, y) + alpha T^2 KL(p || softmax(g_l / T))`` over inner layers l with heads g, p
        the model's own.
    When: there is no teacher, or a student from whose inner layers answers are wanted.
    Cost: no teacher is run; ``(D + 1) C`` parameters a layer, never exported.

    Args:
        weight, temperature: numbers or schedules.
        alpha: the share of the deepest layer against the labels, in [0, 1]; a number or a schedule.
        layers: the inner layers of the student that have heads; None: all but the last.
    """

    outcome = Choice
    maps_layers = True
    needs_teacher = False
    reads_labels = True

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        alpha: float | Schedule = 0.5,
        layers: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        low, high = bounds(alpha, "alpha")
        if not 0 <= low <= high <= 1:
            raise UserError(
                f"alpha {format_range(low, high)}, but is the deepest layer's share and must stay in [0, 1]"
            )
        self.weight, self.alpha, self.layers = weight, alpha, layers
        self.temperature = positive(temperature, "temperature")

    def resolve_layers(self, student: int, teacher: int) -> None:
        layers = range(student - 1) if self.layers is None else self.layers
        if not layers or not all(0 <= layer < student - 1 for layer in layers):
            raise UserError(
                f"layers={list(layers)} cannot learn from a deeper layer: the student has the layers "
                f"{list(range(student))}, so choose among {list(range(student - 1))}"
            )
        self.taps = {"student": tuple(f"hidden.{layer}" for layer in layers), "teacher": ()}

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        self.heads = nn.ModuleList(nn.Linear(width(student, tap, "student"), student.classes) for tap in self._own)

    @property
    def _own(self) -> tuple[str, ...]:
        return self.taps["student"]

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        label = torch.full_like(student.mask, -1, dtype=torch.long) if student.label is None else student.label
        temperature, alpha = value_at(self.temperature, progress), value_at(self.alpha, progress)
        deep = student.logits.detach()
        total = student.logits.new_zeros(())
        for tap, head in zip(self._own, self.heads, strict=True):
            shallow = head(pool(student, tap, "student"))
            total = total + student.mean(deep_to_shallow(shallow, deep, label, temperature, alpha))
        return total / len(self.heads)
