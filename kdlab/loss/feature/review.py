"""Knowledge review: the student's deep layers learn from the teacher's shallow layers too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.feature.hint import squared_difference
from kdlab.loss.feature.layered import Layered, with_tokens
from kdlab.loss.place import pooled
from kdlab.loss.term import ModelSpec, width
from kdlab.output import Output, at_least_float32
from kdlab.precision import exact
from kdlab.schedule.base import Schedule

SEGMENTS = (4, 2, 1)


@exact()
def segment_means(features: Tensor, tokens: Tensor, segments: int) -> Tensor:
    """The means over equal segments of each row's real tokens; a token on a border belongs to both segments.

    Args:
        features: ``[B, L, D]``. tokens: ``[B, L]`` bool, the real ones, wherever the padding is.

    Returns:
        ``[B, segments, D]``: what adaptive average pooling gives for the row without its padding.

    Example:
        >>> segment_means(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]), 1)
        tensor([[[2.]]])
    """
    count, rank = tokens.sum(-1, keepdim=True), tokens.cumsum(-1) - 1
    number = torch.arange(segments, device=tokens.device)
    start, end = number * count // segments, -(-(number + 1) * count // segments)
    inside = (rank[:, None] >= start[..., None]) & (rank[:, None] < end[..., None]) & tokens[:, None]
    share = inside.to(features) / inside.sum(-1, keepdim=True).clamp(min=1)
    return share @ features.where(tokens[..., None], 0)


def hierarchical_context(student: Tensor, teacher: Tensor, tokens: Tensor) -> Tensor:
    """The squared difference of tokens, and of means over a quarter, a half and the whole of a row, per row.

    Args:
        student, teacher: ``[B, L, D]``; half precision is computed in float32.
        tokens: ``[B, L]`` bool, the real ones.

    Returns:
        ``[B]``, >= 0: the levels weighted 1, 1/2, 1/4 and 1/8, divided by the sum of these; 0 where both agree. All
        levels count in every row, however short; the authors' code skips those with as many segments as places.

    Example:
        >>> hierarchical_context(torch.zeros(1, 4, 2), torch.ones(1, 4, 2), torch.ones(1, 4, dtype=torch.bool))
        tensor([1.])

    Source: Chen, Liu, Zhao, Jia 2021, arXiv:2104.09044, section 3.3 (HCL), segments of the token axis in the place of
        a pyramid over pixels.
    """
    s, t = at_least_float32(student), at_least_float32(teacher)
    difference = squared_difference(s, t).where(tokens, 0).sum(-1) / tokens.sum(-1).clamp(min=1)
    total, weight, weights = difference, 1.0, 1.0
    for segments in SEGMENTS:
        weight /= 2
        weights += weight
        level = squared_difference(segment_means(s, tokens, segments), segment_means(t, tokens, segments)).mean(-1)
        total = total + weight * level
    return total / weights


class Fusion(nn.Module):
    """Attention-based fusion of a layer with what the layers above it gave.

    ``source -> size``, then a share for each token of this layer and of the ones above, and ``size -> target``.
    """

    def __init__(self, source: int, target: int, size: int, deepest: bool) -> None:
        super().__init__()
        self.enter = nn.Linear(source, size)
        self.share: nn.Module = nn.Identity() if deepest else nn.Linear(2 * size, 2)
        self.leave = nn.Linear(size, target)

    def forward(self, state: Tensor, above: Tensor | None) -> Tensor:
        """``[B, L, size]`` from the layer ``[B, L, source]`` and what came from above ``[B, L, size]``."""
        entered = self.enter(state)
        if above is None:
            return entered
        if above.shape[1] != entered.shape[1]:
            above = pooled(above, entered.shape[1])  # maps of a deeper stage, which are coarser
        this, deeper = self.share(torch.cat([entered, above], -1)).sigmoid().chunk(2, -1)
        return this * entered + deeper * above


class Review(Layered):
    """The mean of :func:`hierarchical_context` over pairs of layers and rows, from the top layer down.

    The paper is about the stages of a convolutional network. Here the layers of a transformer take their place: from
    the top down, each student layer is fused with what its deeper layers gave, by two shares a token, and compared with
    the teacher's layer, so that the student's deep layers learn from the teacher's shallow ones too. All layers have
    the same tokens, so nothing is resized but the maps of images, whose places are repeated as in the paper; linear
    layers take the place of the 1x1 and 3x3 convolutions.

    Formula: ``sum_k 2^-k |pool_k(f) - pool_k(t)|^2 / sum_k 2^-k``, f the layer fused with those above, pools of 1, 1/4,
        1/2 and all tokens.
    When: the student's deep layers should learn from the teacher's shallow ones too.
    Cost: a fusion of about ``D_s S + 4 S + S D_t`` parameters a pair at width S, never exported; the hidden states of
        both.

    Args:
        weight, layer_map, taps: see :class:`kdlab.loss.feature.layered.Layered`; a fixed map.
        size: width in which layers are fused; null takes the teacher's.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layer_map: str | Sequence[Any] | None = "uniform",
        taps: Mapping[str, str] | None = None,
        size: int | None = None,
    ) -> None:
        super().__init__(weight, layer_map, taps)
        if self.layer_map.dense:
            raise UserError(
                f"layer_map={layer_map} relates all layers, but knowledge review goes from the top down: choose "
                "uniform, last, skip or pairs."
            )
        if size is not None and size < 1:
            raise UserError(f"size is {size}, but must be at least 1, or null for the teacher's width.")
        self.size = size

    def resolve_layers(self, student: int, teacher: int) -> None:
        super().resolve_layers(student, teacher)
        self.pairs, self.names = map(list, zip(*sorted(zip(self.pairs, self.names, strict=True))[::-1], strict=True))

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        sizes = [(width(student, one, "student"), width(teacher, two, "teacher")) for one, two in self.names]
        fused = self.size or sizes[0][1]
        self.adapters = nn.ModuleList(
            Fusion(source, target, fused, deepest=not index) for index, (source, target) in enumerate(sizes)
        )

    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        (student_tap, tokens), (teacher_tap, _) = with_tokens(student_tap, student), with_tokens(teacher_tap, student)
        return hierarchical_context(student_tap, teacher_tap, tokens)

    def values(self, student_taps: Sequence[Tensor], teacher_taps: Sequence[Tensor], student: Output) -> list[Tensor]:
        found, above = [], None
        for state, target, fusion in zip(
            student_taps, teacher_taps, cast(Iterable[Fusion], self.adapters), strict=True
        ):
            above = fusion(state, above)
            found.append(self.compare(fusion.leave(above), target, fusion, student))
        return found
