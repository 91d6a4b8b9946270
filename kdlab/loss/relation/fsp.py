"""Flow of the solution procedure: how the features of one layer go with those of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.place import alike
from kdlab.loss.relation.tokens import sequences
from kdlab.loss.term import ModelSpec, Term, width
from kdlab.output import Output, at_least_float32
from kdlab.precision import exact
from kdlab.schedule.base import Schedule


@exact()
def flow(first: Tensor, second: Tensor, tokens: Tensor) -> Tensor:
    """The FSP matrix: products of the features of two layers, averaged over the real tokens.

    Args:
        first: ``[B, L, M]``. second: ``[B, L, N]``. Half precision is computed in float32.
        tokens: ``[B, L]`` bool.

    Returns:
        ``[B, M, N]``.

    Example:
        >>> import torch
        >>> flow(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0]]]), torch.tensor([[True]])).tolist()
        [[[3.0], [6.0]]]

    Source: Yim et al. 2017 (FSP), CVPR, equation 1, with tokens in the place of pixels.
    """
    real = tokens[..., None]
    first, second = at_least_float32(first).where(real, 0), at_least_float32(second).where(real, 0)
    return first.transpose(1, 2) @ second / real.sum(1, keepdim=True).clamp(min=1)


def flow_difference(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], tokens: Tensor) -> Tensor:
    """The squared difference of two FSP matrices, averaged over their entries, per row.

    Args:
        student, teacher: the two layers, ``[B, L, M]`` and ``[B, L, N]``, of each.
        tokens: ``[B, L]`` bool.

    Returns:
        ``[B]``, >= 0, free of a rotation that all four share, and of the order of tokens; 0 where the matrices agree.

    Example:
        >>> import torch
        >>> one, two = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0]]])
        >>> flow_difference((one, two), (one, 0 * two), torch.tensor([[True]]))  # (9 + 36) / 2
        tensor([22.5000])

    Source: Yim et al. 2017 (FSP), CVPR, equation 2, divided by M N.
    """
    return (flow(*student, tokens) - flow(*teacher, tokens)).square().mean((-2, -1))


class FSP(Term):
    """The mean of :func:`flow_difference`, averaged over neighbours in a list of taps.

    Where the widths of a pair of taps differ, a linear projection, which learns with the student, takes the student's
    to the teacher's.

    Formula: ``mean (G_s - G_t)^2`` with ``G = mean_l a_l b_l'`` over the tokens l of two layers a and b.
    When: how one layer's features become those of another matters more than what they are.
    Cost: a projection a tap where the widths differ, never exported; D^2 numbers a row and pair.

    Args:
        weight: a number or a schedule.
        taps: ``{student: [NAME, NAME, …], teacher: [NAME, NAME, …]}``, all ``[B, L, D]``, as many for both; the flow
            goes from each to the next.

    Raises:
        UserError: lists of another shape.
    """

    def __init__(self, weight: float | Schedule = 1.0, taps: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__()
        self.weight = weight
        both = ["embedding", "hidden.-1"]
        self.taps = lists(taps or {"student": both, "teacher": both})
        self.adapters = nn.ModuleList(nn.Identity() for _ in self.taps["student"])

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        widths = [
            (width(student, one, "student"), width(teacher, two, "teacher"))
            for one, two in zip(self.taps["student"], self.taps["teacher"], strict=True)
        ]
        self.adapters = nn.ModuleList(nn.Identity() if s == t else nn.Linear(s, t) for s, t in widths)

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        taps = [
            sequences(student, teacher, one, two)
            for one, two in zip(self.taps["student"], self.taps["teacher"], strict=True)
        ]
        fewest = min(taps, key=lambda one: one[0].shape[1])  # maps of several resolutions, each at the coarsest
        taps = [
            (alike(one, fewest[0], student)[0], alike(two, fewest[1], student)[0], fewest[2]) for one, two, _ in taps
        ]
        student_taps = [adapter(tap) for adapter, (tap, _, _) in zip(self.adapters, taps, strict=True)]
        teacher_taps = [tap for _, tap, _ in taps]
        tokens = taps[0][2]
        flows = [
            flow_difference(one, two, tokens)
            for one, two in zip(pairwise(student_taps), pairwise(teacher_taps), strict=True)
        ]
        return student.mean(sum(flows[1:], flows[0]) / len(flows))


def lists(taps: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """``taps`` of a term that reads as many places in both models, at least two.

    Raises:
        UserError: another shape than that.

    Example:
        >>> import torch
        >>> lists({"student": ["embedding", "hidden.1"], "teacher": ["embedding", "hidden.3"]})
        {'student': ('embedding', 'hidden.1'), 'teacher': ('embedding', 'hidden.3')}
    """
    known = {role: tuple(names) for role, names in taps.items() if not isinstance(names, str)}
    named = all(isinstance(name, str) for names in known.values() for name in names)
    if set(known) != {"student", "teacher"} or not named or not 2 <= len(known["student"]) == len(known["teacher"]):
        raise UserError(
            f"A flow's taps are {dict(taps)}, but it goes from place to place in both models: give as many, at least "
            "two, to each, such as {student: [embedding, hidden.-1], teacher: [embedding, hidden.-1]}."
        )
    return known
