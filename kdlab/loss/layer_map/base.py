"""The base of layer maps: pairs of a student layer and the teacher layer that it learns from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.output import Output

Pair = tuple[int, int]  # student layer, teacher layer, both 0-based from the bottom


class LayerMap(nn.Module, ABC):
    """Pairs of layers, and how what is compared between them becomes one number.

    Attributes:
        row_wise: whether it treats every row by itself, so that micro-batches add up.
        dense: whether every student layer meets every teacher layer; then a student layer has one adapter for all.
    """

    row_wise: bool = True
    dense: bool = False

    @abstractmethod
    def pairs(self, student: int, teacher: int) -> list[Pair]:
        """The pairs, from the numbers of layers of both models.

        Raises:
            UserError: the map does not fit these numbers of layers; the sentence shows both lists of layers.
        """

    def build_adapters(self, student: Sequence[int], teacher: Sequence[int]) -> None:
        """Make what the map learns. Called once, after :meth:`pairs`, before the optimizer is made.

        Args:
            student, teacher: the width of each layer's tap, from the bottom.
        """

    @abstractmethod
    def total(
        self, values: Sequence[Tensor], student_taps: Sequence[Tensor], teacher_taps: Sequence[Tensor], student: Output
    ) -> Tensor:
        """One scalar of what every pair gave.

        Args:
            values: one a pair, per row or per token: what ``student.mean`` takes.
            student_taps, teacher_taps: one tap for each pair, of its student and its teacher layer, before any adapter.
            student: its ``mean`` is what reduces.
        """


def misfit(what: str, student: int, teacher: int, advice: str) -> UserError:
    """The sentence for a map that does not fit, with both lists of layers.

    Example:
        >>> import torch
        >>> print(misfit("layer_map=last needs more layers", 2, 1, "choose uniform"))
        layer_map=last needs more layers: the student's layers are [0, 1] and the teacher's [0]; choose uniform.
    """
    student_layers, teacher_layers = list(range(student)), list(range(teacher))
    return UserError(f"{what}: the student's layers are {student_layers} and the teacher's {teacher_layers}; {advice}.")
