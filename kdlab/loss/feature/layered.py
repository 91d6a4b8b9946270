"""The base of terms that compare layers of the student with layers of the teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.layer_map.base import LayerMap, Pair
from kdlab.loss.layer_map.choose import choose
from kdlab.loss.place import alike
from kdlab.loss.term import ModelSpec, Term, pair, read, width
from kdlab.output import Output
from kdlab.schedule.base import Schedule


class Layered(Term, ABC):
    """A term over pairs of layers: a subclass compares one pair, and the layer map chooses the pairs.

    A fixed map takes the mean over its pairs, so that a weight means the same under each of them.

    Args:
        weight: a number or a schedule.
        layer_map: see :func:`kdlab.loss.layer_map.choose.choose`; null where ``taps`` are given.
        taps: ``{student: NAME, teacher: NAME}`` to compare two taps of any kind, such as ``pooled`` or
            ``module:<path>``, instead of layers.

    Attributes:
        kind: the tap of a layer that is compared: ``hidden`` or ``attention``.
        adapters: one a pair of a fixed map, one a student layer of a map in which each layer meets each.
    """

    kind: ClassVar[str] = "hidden"

    def __init__(self, weight: float | Schedule, layer_map: Any, taps: Mapping[str, str] | None) -> None:
        super().__init__()
        if (layer_map is None) == (taps is None):
            raise UserError(
                f"layer_map is {layer_map} and taps are {taps}, but exactly one of them chooses what is compared: set "
                "the other to null, such as layer_map=null and taps={student: pooled, teacher: pooled}."
            )
        self.weight = weight
        self.maps_layers = taps is None
        self.layer_map: LayerMap = choose([[0, 0]] if taps is not None else layer_map)
        self.row_wise = self.layer_map.row_wise
        # the kind of tap is named before the layers are known, so that a teacher without it is refused early
        self.taps = pair(taps or dict.fromkeys(("student", "teacher"), f"{self.kind}.-1"))
        self.pairs: list[Pair] = [(0, 0)]
        self.names = [(self.taps["student"][0], self.taps["teacher"][0])]
        self.adapters = nn.ModuleList([nn.Identity()])
        self.apart = 1  # how many pairs share an adapter

    def resolve_layers(self, student: int, teacher: int) -> None:
        if not self.maps_layers:
            return
        self.pairs = self.choose_pairs(student, teacher)
        self.names = [
            (f"{self.kind}.{student_layer}", f"{self.kind}.{teacher_layer}")
            for student_layer, teacher_layer in self.pairs
        ]
        student_names, teacher_names = (tuple(dict.fromkeys(names)) for names in zip(*self.names, strict=True))
        self.taps = {"student": student_names, "teacher": teacher_names}

    def choose_pairs(self, student: int, teacher: int) -> list[Pair]:
        """The pairs of layers that are compared."""
        return self.layer_map.pairs(student, teacher)

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        sizes = [(width(student, one, "student"), width(teacher, two, "teacher")) for one, two in self.names]
        teacher_layers = len(self.taps["teacher"])
        self.apart = teacher_layers if self.layer_map.dense else 1
        self.adapters = nn.ModuleList(self.adapter(*size) for size in sizes[:: self.apart])
        self.layer_map.build_adapters(
            [size[0] for size in sizes[:: self.apart]], [size[1] for size in sizes[:teacher_layers]]
        )

    def adapter(self, source: int, target: int) -> nn.Module:
        """The module that is learned for one pair, given the widths of its two taps: a projection where they differ."""
        return nn.Identity() if source == target else nn.Linear(source, target)

    @abstractmethod
    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        """The distance between the two taps of a pair, per row or per token.

        Args:
            student_tap, teacher_tap: the two taps, equal in all dimensions but the last.
            adapter: the result of :meth:`adapter` for this pair.
        """

    def values(self, student_taps: Sequence[Tensor], teacher_taps: Sequence[Tensor], student: Output) -> list[Tensor]:
        """:meth:`compare` for every pair."""
        adapters = [self.adapters[index // self.apart] for index in range(len(student_taps))]
        return [self.compare(*three, student) for three in zip(student_taps, teacher_taps, adapters, strict=True)]

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        student_taps = [read(student, name, "student") for name, _ in self.names]
        teacher_taps = [read(teacher, name, "teacher") for _, name in self.names]
        matched = [alike(one, two, student) for one, two in zip(student_taps, teacher_taps, strict=True)]
        student_taps, teacher_taps = [one for one, _ in matched], [two for _, two in matched]
        for (student_name, teacher_name), one, two in zip(self.names, student_taps, teacher_taps, strict=True):
            self.check(student_name, teacher_name, one, two)
        values = self.values(student_taps, teacher_taps, student)
        return self.layer_map.total(values, student_taps, teacher_taps, student)

    def check(self, student_name: str, teacher_name: str, student_tap: Tensor, teacher_tap: Tensor) -> None:
        """Check that two taps can be compared.

        Raises:
            UserError: they differ in more than the width.
        """
        if student_tap.shape[:-1] != teacher_tap.shape[:-1]:
            raise UserError(
                f"{type(self).__name__} compares the student's tap '{student_name}' {tuple(student_tap.shape)} with "
                f"the teacher's '{teacher_name}' {tuple(teacher_tap.shape)}, but they must agree in all but the width: "
                "use a teacher with the same tokenizer, and a student with tokens."
            )


def real_tokens(value: Tensor, output: Output, name: str) -> Tensor:
    """``[B, L]`` bool: the real tokens of a tap ``[B, L, D]``; where rows have none, all places of a map are real.

    Raises:
        UserError: the tap has no token axis.
    """
    if value.ndim == 3 and output.tokens is None:
        return torch.ones(value.shape[:2], dtype=torch.bool, device=value.device)
    if value.ndim != 3 or output.tokens is None or value.shape[:2] != output.tokens.shape:
        raise UserError(
            f"{name} looks at how a feature runs over the tokens of a row, but reads a tap {tuple(value.shape)}: "
            "choose one with a vector a token, such as hidden.-1."
        )
    return output.tokens


def with_tokens(value: Tensor, output: Output) -> tuple[Tensor, Tensor]:
    """A tap as ``[B, L, D]`` with its real tokens ``[B, L]``; ``[B, D]`` is a row of one token."""
    if value.ndim == 2:
        return value[:, None], torch.ones_like(value[:, :1], dtype=torch.bool)
    return value, real_tokens(value, output, "this term")


def mlp(sizes: Sequence[int], slope: float) -> nn.Sequential:
    """Linear layers of these widths with a leaky ReLU between them."""
    layers: list[nn.Module] = []
    for source, target in pairwise(sizes):
        layers += [nn.LeakyReLU(slope), nn.Linear(source, target)]
    return nn.Sequential(*layers[1:])


def unit(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """``values`` divided by their Euclidean norm over ``dim``; zeros stay zeros.

    Example:
        >>> unit(torch.tensor([3.0, 4.0]), -1)
        tensor([0.6000, 0.8000])
    """
    largest = values.abs().amax(dim, keepdim=True).detach()
    scaled = values / largest.where(largest > 0, 1)  # squares of large and of small numbers stay in range
    square = scaled.square().sum(dim, keepdim=True)
    return scaled / square.where(square > 0, 1).sqrt()
