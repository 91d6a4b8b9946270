"""The base class of the terms of a distillation loss."""

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
class ModelSpec:
    """The shape of a model, from which terms build their adapters before training.

    Attributes:
        widths: the width (last dimension) of each of its taps that terms read.
        layers: number of layers; 0 where it is no stack of layers.
        classes: number of logits; 0 where that is not known.
        heads: number of attention heads of a layer; 0 where it has none.
        classifier: returns the final linear layer, which turns the tap ``pooled`` into logits, or None; a call may
            load the model.
    """

    widths: Mapping[str, int] = field(default_factory=dict)
    layers: int = 0
    classes: int = 0
    heads: int = 0
    classifier: Callable[[], nn.Linear | None] = lambda: None


class Term(nn.Module, ABC):
    """A scalar function of the outputs of student and teacher, with the adapters (projections) that it owns.

    A call computes in float32, or wider where an input is, whatever the precision of the training: autocast is off, and
    logits, taps and parameters in half precision are converted. Values in rows outside the mask and in padding are set
    to 0. So :meth:`forward` needs to care for neither.

    Labels and row ids are part of the outputs: ``student.label``, ``student.row``.

    Attributes:
        weight: factor in the objective, a number or a schedule.
        taps: the tap names that the term reads, by role: ``{"student": (...), "teacher": (...)}``.
        outcome: the kind of outcomes that the term fits: ``Choice`` (one of several), ``Bernoulli`` (any of several),
            ``Classes`` (either), ``Real`` (one number), or ``Outcome``, which is every kind.
        reads_labels: whether the term reads the labels of the rows that have one.
        needs_teacher: whether the term reads the teacher; one that does not may be given None for it.
        row_wise: whether each row is compared by itself, so that micro-batches and devices add up to the whole batch;
            otherwise the rows of a micro-batch on one device are related to each other, and nothing is gathered.
        maps_layers: whether :meth:`resolve_layers` decides the taps from the numbers of layers.
        several_teachers: whether it needs an ensemble, whose members' logits it reads as the taps ``logits.<name>``.
        reads_top_k: whether the teacher's largest logits, ``teacher.top``, are enough for it.
        scalars: the rates of the parameters :attr:`learned`, which are no adapters; None: it has none.
        aligned: whether it compares pieces of a text, so that the teacher may have other tokens than the student.
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
    aligned: bool = False
    same_width: bool = False

    def __call__(self, student: Output, teacher: Output | None, progress: float) -> Any:
        if self.outcome is Choice and student.head is None:
            enough_classes(student.logits.shape[-1], type(self).__name__)
        outputs = {"student": student.along(self.taps["student"])}
        if teacher is not None:
            outputs["teacher"] = teacher.along(self.taps["teacher"])
        reads = {role: [name for name in one.taps if self._reads(role, name)] for role, one in outputs.items()}
        seen = [
            tensor for role, one in outputs.items() for tensor in (one.logits, *[one.taps[tap] for tap in reads[role]])
        ]
        dtype = reduce(torch.promote_types, (one.dtype for one in (*seen, *self.parameters())), torch.float32)
        narrow = {name: one.to(dtype) for name, one in self.named_parameters() if one.dtype != dtype}
        if narrow:
            return functional_call(self, narrow, (student, teacher, progress))
        with exact():
            clear = {role: one.cleared(reads[role], dtype, outputs["student"]) for role, one in outputs.items()}
            return super().__call__(clear["student"], clear.get("teacher"), progress)

    def _reads(self, role: str, tap: str) -> bool:
        return tap in self.taps[role] or (self.several_teachers and role == "teacher")

    @classmethod
    def jumps(cls, settings: Mapping[str, Any]) -> Mapping[str, tuple[float, ...]]:
        """The values of settings at which the term's value jumps, by setting: no trend of a sweep goes through them.

        Args:
            settings: the arguments of the term, as the config has them.
        """
        return {}

    @property
    def learned(self) -> list[nn.Parameter]:
        """The parameters with the rates :attr:`scalars`: a temperature, a variance. All others are adapters."""
        return []

    def resolve_layers(self, student: int, teacher: int) -> None:
        """Set :attr:`taps` for these numbers of layers. Called once, before taps are read.

        Args:
            student, teacher: number of layers of each model.

        Raises:
            UserError: a layer that one of them lacks; the sentence shows both lists of layers.
        """

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        """Make the adapters. Called once, before the optimizer is made.

        Args:
            student, teacher: the shapes of both models.
            rows: number of rows of the data; row ids are below it.
        """

    @abstractmethod
    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        """The term's value, a scalar reduced with ``student.mean``."""


def enough_classes(classes: int, name: str) -> None:
    """Check that there are two classes or more.

    Args:
        classes: number of logits of a position.
        name: of the term, for the message.

    Raises:
        UserError: one class.
    """
    if classes == 1:
        raise UserError(
            f"{name} compares student and teacher on two or more labels, but the data has one: add rows "
            "with other labels, or use a term for numbers, such as regression."
        )


def pair(taps: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The attribute ``taps`` of a term that reads one tap of each model.

    Args:
        taps: ``{"student": name, "teacher": name}``.

    Raises:
        UserError: another shape than that.

    Example:
        >>> pair({"student": "hidden.-1", "teacher": "pooled"})
        {'student': ('hidden.-1',), 'teacher': ('pooled',)}
    """
    if set(taps) != {"student", "teacher"} or not all(isinstance(name, str) for name in taps.values()):
        raise UserError(
            f"A term's taps are {dict(taps)}, but it reads one tap of each model: "
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


def width(model: ModelSpec, name: str, role: str) -> int:
    """The width of the tap ``name``.

    Raises:
        UserError: the model does not offer it.

    Example:
        >>> width(ModelSpec({"pooled": 16}), "pooled", "student")
        16
    """
    if name not in model.widths:
        offered = ", ".join(model.widths) or "none"
        raise UserError(
            f"A loss term reads the {role}'s tap '{name}', but the {role} offers {offered}; change its taps.{role}."
        )
    return model.widths[name]


def same_classes(student: Output, teacher: Output) -> None:
    """Check that student and teacher have logits for the same rows and labels.

    Raises:
        UserError: their logits differ in shape.
    """
    if student.logits.shape != teacher.logits.shape:
        raise UserError(
            f"The student's logits are {tuple(student.logits.shape)} and the teacher's "
            f"{tuple(teacher.logits.shape)}, but a logit "
            "loss needs the same rows and labels: use a teacher that was trained on the labels of this task."
        )
