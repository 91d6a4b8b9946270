"""Inter-channel correlation: which features of a row go together."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from kdlab.loss.relation.rows import unit
from kdlab.loss.relation.tokens import sequences
from kdlab.loss.term import ModelSpec, Term, pair, width
from kdlab.output import Output, at_least_float32
from kdlab.precision import exact
from kdlab.schedule.base import Schedule


@exact()
def channel_correlation(features: Tensor, tokens: Tensor) -> Tensor:
    """Inner products of all pairs of channels over a row's real tokens, each row of the matrix at length 1.

    Args:
        features: ``[B, L, D]``; half precision is computed in float32.
        tokens: ``[B, L]`` bool.

    Returns:
        ``[B, D, D]``.

    Example:
        >>> import torch
        >>> channel_correlation(torch.eye(2)[None], torch.tensor([[True, True]])).tolist()
        [[[1.0, 0.0], [0.0, 1.0]]]
    """
    features = at_least_float32(features).where(tokens[..., None], 0)
    return unit(features.transpose(1, 2) @ features)


def channel_difference(student: Tensor, teacher: Tensor, tokens: Tensor) -> Tensor:
    """The squared difference of two channel correlations, summed over a channel's partners, averaged over channels.

    Args:
        student, teacher: ``[B, L, D]``.
        tokens: ``[B, L]`` bool.

    Returns:
        ``[B]``, >= 0, free of the scale of either side and of the order of tokens; 0 where the correlations agree.

    Example:
        >>> import torch
        >>> student, teacher = torch.eye(2)[None], torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
        >>> channel_difference(student, teacher, torch.tensor([[True, True]]))  # 2 - sqrt 2
        tensor([0.5858])

    Source: Liu et al. 2021 (ICKD-C), arXiv:2202.03680, section 3.2, with tokens in the place of pixels; the rows of the
    matrices at length 1, and divided by D, as in the authors' code.
    """
    difference = channel_correlation(student, tokens) - channel_correlation(teacher, tokens)
    return difference.square().sum(-1).mean(-1)


class ICKD(Term):
    """The mean of :func:`channel_difference` between two taps.

    Where the widths differ, a linear projection, which learns with the student, takes the student's to the teacher's.

    Formula: ``mean_d |c_d(s) - c_d(t)|^2`` with c the rows of ``A' A`` at length 1, A the features of a text ``[L,
        D]``.
    When: which features go together should stay, whatever the tokens.
    Cost: a projection of ``D_s D_t`` parameters where the widths differ, never exported; D^2 numbers a row.

    Args:
        weight: a number or a schedule.
        taps: ``{student: NAME, teacher: NAME}``, both ``[B, L, D]``.
    """

    def __init__(self, weight: float | Schedule = 1.0, taps: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.taps = pair(taps or {"student": "hidden.-1", "teacher": "hidden.-1"})
        self.adapter: nn.Module = nn.Identity()

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        source = width(student, self.taps["student"][0], "student")
        target = width(teacher, self.taps["teacher"][0], "teacher")
        self.adapter = nn.Identity() if source == target else nn.Linear(source, target)

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        student_tap, teacher_tap, tokens = sequences(student, teacher, self.taps["student"][0], self.taps["teacher"][0])
        return student.mean(channel_difference(self.adapter(student_tap), teacher_tap, tokens))
