"""The base of losses that learn from each member of an ensemble: it reads the members' logits."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.term import Term
from kdlab.outcome import Choice
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, positive

PREFIX = "logits."


class Members(Term, ABC):
    """A term for single-label tasks that reads the logits of several teachers.

    Args:
        weight, temperature: numbers or schedules.
        taps: ``{teacher: [logits.NAME, …]}``, the members to learn from; none named: all that the ensemble has.

    Raises:
        UserError: taps that are no members' logits, or just one.
    """

    outcome = Choice
    several_teachers = True

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        taps: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        named = {"teacher": ()} | dict(taps or {})
        names = named["teacher"]
        if set(named) != {"teacher"} or isinstance(names, str) or not all(n.startswith(PREFIX) for n in names):
            raise UserError(
                f"This term's taps are {named}, but it reads the logits of an ensemble's members: give "
                "{teacher: [logits.NAME, logits.NAME]}, or {teacher: []} for all of them."
            )
        if len(names) == 1:
            raise UserError(f"This term weighs teachers against each other, but reads {names[0]} only: name another.")
        self.weight = weight
        self.temperature = positive(temperature, "temperature")
        self.taps = {"student": (), "teacher": tuple(names)}

    def members(self, student: Output, teacher: Output) -> Tensor:
        """The logits of M members, ``[M, ..., C]``, in float32 or wider.

        Raises:
            UserError: the teacher has no such members, or their logits are of other labels.
        """
        offered = [name for name in teacher.taps if name.startswith(PREFIX)]
        names = self.taps["teacher"] or sorted(offered)
        if len(names) < 2 or not set(names) <= set(offered):
            needed = " and ".join(self.taps["teacher"]) or "two"
            raise UserError(
                f"A loss that weighs several teachers needs {needed}, but the teacher offers the logits of "
                f"{', '.join(offered) or 'no members'}: use teacher=ensemble with at least two, or loss=kd."
            )
        logits = [at_least_float32(teacher.taps[name]) for name in names]
        for name, one in zip(names, logits, strict=True):
            if one.shape != student.logits.shape:
                raise UserError(
                    f"The student's logits are {tuple(student.logits.shape)} and those of '{name}' {tuple(one.shape)}: "
                    "use teachers that were trained on the labels of this task."
                )
        return torch.stack(logits)


def divergences(student: Tensor, members: Tensor, temperature: float) -> Tensor:
    """:func:`tempered_kl` from each member ``[M, ..., C]`` to the student ``[..., C]``: ``[M, ...]``.

    Example:
        >>> divergences(torch.zeros(2), torch.tensor([[100.0, 0.0], [0.0, 0.0]]), 1.0)  # log 2 and 0
        tensor([0.6931, 0.0000])
    """
    return tempered_kl(student.expand_as(members), members, temperature)
