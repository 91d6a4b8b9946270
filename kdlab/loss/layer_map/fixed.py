"""Maps that are decided before training: every pair counts the same."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from kdlab.loss.layer_map.base import LayerMap, Pair, misfit
from kdlab.output import Output


def top(student: int, teacher: int) -> list[Pair]:
    """Only the top layer, from the teacher's top layer.

    Example:
        >>> top(3, 6)
        [(2, 5)]
    """
    return [(student - 1, teacher - 1)]


def last(student: int, teacher: int) -> list[Pair]:
    """Each of M layers from one of the teacher's last M.

    Example:
        >>> last(2, 6)
        [(0, 4), (1, 5)]

    Source: Sun et al. 2019 (PKD-Last), arXiv:1908.09355, section 3.2.
    """
    return [(layer, teacher - student + layer) for layer in range(student)]


def skip(student: int, teacher: int) -> list[Pair]:
    """Every k-th of the teacher's N layers, k = N // M, so layer m (from 1) learns from k m.

    Example:
        >>> skip(3, 12)
        [(0, 3), (1, 7), (2, 11)]

    Source: Sun et al. 2019 (PKD-Skip), arXiv:1908.09355, section 3.2.
    """
    step = teacher // student
    return [(layer, step * (layer + 1) - 1) for layer in range(student)]


def uniform(student: int, teacher: int) -> list[Pair]:
    """Layer m (from 1) learns from N m / M, rounded up: the top always from the top. A student may be the deeper one.

    Example:
        >>> uniform(2, 3)
        [(0, 1), (1, 2)]

    Source: Jiao et al. 2020 (TinyBERT), arXiv:1909.10351, section 3.1 (g(m) = m N / M).
    """
    return [(layer, -(-(layer + 1) * teacher // student) - 1) for layer in range(student)]


NAMED: dict[str, Callable[[int, int], list[Pair]]] = {"top": top, "last": last, "skip": skip, "uniform": uniform}


class Fixed(LayerMap, ABC):
    """Every pair counts the same: the mean over pairs of each pair's mean over rows."""

    def total(
        self, values: Sequence[Tensor], student_taps: Sequence[Tensor], teacher_taps: Sequence[Tensor], student: Output
    ) -> Tensor:
        return torch.stack([student.mean(value) for value in values]).mean()


@final
class Named(Fixed):
    """A rule of :data:`NAMED`, good for any two depths; ``last`` and ``skip`` need a teacher at least as deep."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def pairs(self, student: int, teacher: int) -> list[Pair]:
        if not student or not teacher:
            raise misfit(f"layer_map={self.name} needs layers on both sides", student, teacher, "use a loss without")
        if self.name in ("last", "skip") and student > teacher:
            raise misfit(
                f"layer_map={self.name} needs a teacher with as many layers", student, teacher,
                "choose layer_map=uniform, or name the pairs: layer_map=[[0,0],[1,0]]",
            )  # fmt: skip
        return NAMED[self.name](student, teacher)


@final
class Explicit(Fixed):
    """The pairs that the user names.

    Args:
        chosen: pairs of a student's and a teacher's layer; negative numbers count from the top.
        bottom_up: the student's layers were not named: they are all of its layers, from the bottom.
    """

    def __init__(self, chosen: Sequence[Pair], bottom_up: bool = False) -> None:
        super().__init__()
        self.chosen = [(int(i), int(j)) for i, j in chosen]
        self.bottom_up = bottom_up

    def pairs(self, student: int, teacher: int) -> list[Pair]:
        given = [j for _, j in self.chosen] if self.bottom_up else [list(pair) for pair in self.chosen]
        what = f"layer_map={given}".replace(" ", "")
        if self.bottom_up and len(self.chosen) != student:
            raise misfit(
                f"{what} names {len(self.chosen)} of the teacher's layers, one for each of the student's {student}",
                student, teacher, "give as many as the student has, or pairs: layer_map=[[-1,-1]]",
            )  # fmt: skip
        for role, count, layers in (
            ("student", student, [i for i, _ in self.chosen]),
            ("teacher", teacher, [j for _, j in self.chosen]),
        ):
            absent = [layer for layer in layers if not -count <= layer < count]
            if absent:
                raise misfit(
                    f"{what} names layer {absent[0]}, which the {role} lacks", student, teacher,
                    "choose among these (negative numbers count from the top)",
                )  # fmt: skip
        found = [(i % student, j % teacher) for i, j in self.chosen]
        if len(set(found)) < len(found):
            raise misfit(f"{what} names a pair twice", student, teacher, "name each once")
        return found
