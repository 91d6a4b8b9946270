"""Attention between tokens, head by head, as the teacher has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.feature.layered import Layered
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule

OF = ("scores", "probabilities")


def centred_scores(attention: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """The scores before the softmax, less their mean over the keys of a query, from the probabilities.

    Args:
        attention: probabilities ``[B, H, Q, K]``; 0 where dropout or underflow removed them.
        keys: ``[B, 1, Q, K]`` bool, the pairs of real tokens.

    Returns:
        ``[B, H, Q, K]`` scores, 0 where unknown, and whether they are known.

    Example:
        >>> import torch
        >>> attention = torch.tensor([[[[0.8, 0.2]]]])
        >>> centred_scores(attention, torch.tensor([[[[True, True]]]]))[0]  # plus and minus log(4) / 2
        tensor([[[[ 0.6931, -0.6931]]]])
    """
    known = (attention > 0) & keys
    scores = attention.where(known, 1).log()
    mean = scores.sum(-1, keepdim=True) / known.sum(-1, keepdim=True).clamp(min=1)
    return (scores - mean).where(known, 0), known


def attention_difference(student: Tensor, teacher: Tensor, tokens: Tensor, of: str) -> Tensor:
    """The squared difference of the attention, averaged over heads and over pairs of real tokens, per row.

    Where the numbers of heads differ, each side is first averaged over its heads. Softmax is free of a shift, and so
    are these scores: each query's have mean 0 over its keys. Scores that the student's or the teacher's dropout took
    away do not count.

    Args:
        student: probabilities ``[B, H, L, L]``. teacher: ``[B, G, L, L]``. Half precision is computed in float32.
        tokens: ``[B, L]`` bool, the real ones.
        of: ``scores`` (logits of the attention, as in the paper) or ``probabilities``.

    Returns:
        ``[B]``, >= 0; 0 where both attend alike.

    Example:
        >>> import torch
        >>> student, teacher = torch.eye(2)[None, None], torch.full((1, 1, 2, 2), 0.5)
        >>> attention_difference(student, teacher, torch.tensor([[True, True]]), "probabilities")
        tensor([0.2500])

    Source: Jiao et al. 2020 (TinyBERT), arXiv:1909.10351, equation 7 (unnormalised attention).
    """
    keys = (tokens[:, :, None] & tokens[:, None])[:, None]
    s, t = at_least_float32(student), at_least_float32(teacher)
    if of == "scores":
        (s, s_known), (t, t_known) = centred_scores(s, keys), centred_scores(t, keys)
    else:
        s_known, t_known = keys.expand_as(s), keys.expand_as(t)
    if s.shape[1] != t.shape[1]:
        s, s_known = mean_over_heads(s, s_known)
        t, t_known = mean_over_heads(t, t_known)
    known = s_known & t_known
    return (s - t).where(known, 0).square().sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1)


def mean_over_heads(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, 1, L, L]``: the mean over the heads that are known, and whether there is one.

    Example:
        >>> import torch
        >>> values, known = torch.tensor([[[[1.0]], [[3.0]]]]), torch.tensor([[[[True]], [[False]]]])
        >>> mean_over_heads(values, known)[0]
        tensor([[[[1.]]]])
    """
    count = known.sum(1, keepdim=True)
    return values.where(known, 0).sum(1, keepdim=True) / count.clamp(min=1), count > 0


class Attention(Layered):
    """The mean of :func:`attention_difference` over pairs of layers and rows. It needs no projection.

    Formula: ``mean_{h, i, j} (A_s - A_t)^2`` of the scores that softmax turns into attention, over heads and pairs of
        real tokens.
    When: a student of the same kind and with as many heads, as in TinyBERT.
    Cost: no parameters; attention without fused kernels in both models, and H L^2 numbers a row and layer, which a
        stored teacher keeps on disk.

    Args:
        weight, layer_map, taps: see :class:`kdlab.loss.feature.layered.Layered`.
        of: ``scores`` or ``probabilities``.
    """

    kind = "attention"

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layer_map: str | Sequence[Any] | None = "uniform",
        taps: Mapping[str, str] | None = None,
        of: str = "scores",
    ) -> None:
        super().__init__(weight, layer_map, taps)
        if of not in OF:
            raise UserError(f"of is '{of}', but must be one of {', '.join(OF)}: scores is TinyBERT's choice.")
        self.of = of

    def adapter(self, source: int, target: int) -> nn.Module:
        return nn.Identity()

    def check(self, student_name: str, teacher_name: str, student_tap: Tensor, teacher_tap: Tensor) -> None:
        if (
            student_tap.ndim != 4
            or student_tap.shape[::2] != teacher_tap.shape[::2]
            or student_tap.shape[3] != teacher_tap.shape[3]
        ):
            raise UserError(
                f"Attention compares the student's tap '{student_name}' {tuple(student_tap.shape)} with the teacher's "
                f"'{teacher_name}' {tuple(teacher_tap.shape)}, but they must agree in all but the heads: use a teacher "
                "with the same tokenizer."
            )

    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        tokens = student.tokens
        if tokens is None:  # rows are images, whose patches are all real
            tokens = torch.ones(student_tap.shape[0], student_tap.shape[3], dtype=torch.bool, device=student_tap.device)
        return attention_difference(student_tap, teacher_tap, tokens, self.of)
