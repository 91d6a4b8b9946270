"""One piece of a distillation loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdlab.error import UserError
from kdlab.loss.rates import Rates
from kdlab.outcome import Choice, Outcome
from kdlab.output import Output
from kdlab.precision import exact
from kdlab.schedule.base import Schedule


@dataclass(frozen=True)
class Side:
    """What a term can know of a model before training.

    Attributes:
        widths: the width (last dimension) of each tap that terms read of it.
        layers: how many layers it has; 0 where it is no stack of layers.
        classes: how many logits it gives; 0 where that is not known.
        heads: how many attention heads a layer has; 0 where it has none.
        classifier: gives the final linear layer, which turns the tap ``pooled`` into logits, or None; asking it may
            load the model.
    """

    widths: Mapping[str, int] = field(default_factory=dict)
    layers: int = 0
    classes: int = 0
    heads: int = 0
    classifier: Callable[[], nn.Linear | None] = lambda: None


class Term(nn.Module, ABC):
    """A scalar function of what the student and the teacher said, plus the adapters (projections) that it owns.

    A call computes in float32, or wider where an input is, whatever the precision of the training: autocast is off, and
    logits, taps and parameters in half precision are widened. What stands in rows outside the mask and in padding is 0
    by then. So :meth:`forward` needs to see to neither.

    What a term needs of the labels and of the rows' ids stands in the outputs too: ``student.label``, ``student.row``.

    Attributes:
        weight: factor in the objective, a number or a schedule.
        taps: the tap names that the term reads, by role: ``{"student": (...), "teacher": (...)}``.
        outcome: the kind of outcomes that the term fits: ``Choice`` (one of several), ``Bernoulli`` (any of several),
            ``Real`` (one number), or ``Outcome``, which is every kind.
        reads_labels: whether the term looks at the labels of the rows that have one.
        needs_teacher: whether the term reads the teacher; one that does not may be given None for it.
        row_wise: whether the rows of a batch are looked at one by one, so that micro-batches add up to the whole,
            and so do devices; otherwise the rows of a micro-batch on one device are related, and nothing is gathered.
        maps_layers: whether :meth:`place` decides the taps from the numbers of layers.
        several_teachers: whether it needs an ensemble, whose members' logits it reads as the taps ``logits.<name>``.
        reads_top_k: whether it makes do with the largest of the teacher's logits, ``teacher.top``.
        scalars: at which rates the numbers learn that are no adapters, :attr:`learned`; None: it has none.
        same_width: whether the taps must have the teacher's width as they are, without an adapter.
    """

    weight: float | Schedule
    scalars: Rates | None = None
    taps: Mapping[str, tuple[str, ...]] = {"student": (), "teacher": ()}
    outcome: type[Outcome] = Outcome
    reads_labels: bool = False
    needs_teacher: bool = True
    row_wise: bool = True
    maps_layers: bool = False
    several_teachers: bool = False
    reads_top_k: bool = False
    same_width: bool = False

    def __call__(self, student: Output, teacher: Output | None, progress: float) -> Any:
        if self.outcome is Choice and student.head is None:
            enough_classes(student.logits.shape[-1], type(self).__name__)
        outputs = {"student": student} | ({} if teacher is None else {"teacher": teacher})
        reads = {role: [name for name in one.taps if self._reads(role, name)] for role, one in outputs.items()}
        seen = [
            tensor for role, one in outputs.items() for tensor in (one.logits, *[one.taps[tap] for tap in reads[role]])
        ]
        dtype = reduce(torch.promote_types, (one.dtype for one in (*seen, *self.parameters())), torch.float32)
        narrow = {name: one.to(dtype) for name, one in self.named_parameters() if one.dtype != dtype}
        if narrow:
            return functional_call(self, narrow, (student, teacher, progress))
        with exact():
            clear = {role: one.cleared(reads[role], dtype, student) for role, one in outputs.items()}
            return super().__call__(clear["student"], clear.get("teacher"), progress)

    def _reads(self, role: str, tap: str) -> bool:
        return tap in self.taps[role] or (self.several_teachers and role == "teacher")

    @property
    def learned(self) -> list[nn.Parameter]:
        """The parameters that learn at :attr:`scalars`: a temperature, a variance. All others are adapters."""
        return []

    def place(self, student: int, teacher: int) -> None:
        """Decide the taps, given how many layers the two models have. Called once, before taps are read.

        Raises:
            UserError: a layer that one of them lacks; the sentence shows both lists of layers.
        """

    def connect(self, student: Side, teacher: Side, rows: int) -> None:
        """Make the adapters. Called once before the optimizer is made.

        Args:
            student, teacher: what is known of both models.
            rows: how many rows the data has; row ids are below it.
        """

    @abstractmethod
    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        """The term's value, a scalar reduced with ``student.mean``."""


def enough_classes(classes: int, name: str) -> None:
    """Check that there is something to choose from.

    Args:
        classes: how many logits a position has.
        name: of the term, for the message.

    Raises:
        UserError: one class.
    """
    if classes == 1:
        raise UserError(
            f"{name} compares what student and teacher think of two or more labels, but the data has one: add rows "
            "with other labels, or use a term for numbers, such as regression."
        )


def pair(taps: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """``taps`` of a term that reads one place in each model, from ``{"student": name, "teacher": name}``.

    Raises:
        UserError: another shape than that.
    """
    if set(taps) != {"student", "teacher"} or not all(isinstance(name, str) for name in taps.values()):
        raise UserError(
            f"A term's taps are {dict(taps)}, but it reads one place in each model: "
            "give {student: NAME, teacher: NAME}, such as {student: hidden.-1, teacher: hidden.-1}."
        )
    return {role: (taps[role],) for role in ("student", "teacher")}


def read(output: Output, name: str, role: str) -> Tensor:
    """The tap ``name`` of ``output``.

    Raises:
        UserError: it was not computed.
    """
    if name not in output.taps:
        offered = ", ".join(output.taps) or "none"
        raise UserError(
            f"A loss term reads the {role}'s tap '{name}', but these were computed: {offered}; change its taps.{role}."
        )
    return output.taps[name]


def width(side: Side, name: str, role: str) -> int:
    """The width of the tap ``name``.

    Raises:
        UserError: the model does not offer it.
    """
    if name not in side.widths:
        offered = ", ".join(side.widths) or "none"
        raise UserError(
            f"A loss term reads the {role}'s tap '{name}', but the {role} offers {offered}; change its taps.{role}."
        )
    return side.widths[name]


def same_classes(student: Output, teacher: Output) -> None:
    """Check that both speak of the same labels.

    Raises:
        UserError: their logits differ in shape.
    """
    if student.logits.shape != teacher.logits.shape:
        raise UserError(
            f"The student's logits are {tuple(student.logits.shape)} and the teacher's "
            f"{tuple(teacher.logits.shape)}, but a logit "
            "loss needs the same rows and labels: use a teacher that was trained on the labels of this task."
        )
