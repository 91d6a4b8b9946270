"""What a model said about a batch, and the one place where the project averages."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

Batch = dict  # input_ids [B, L], attention_mask [B, L], label [B] or [B, C], row [B], rows: float, labelled: float


@dataclass(frozen=True)
class Output:
    """Logits, the positions that count, and the taps that were asked for.

    Attributes:
        logits: ``[..., C]``.
        mask: ``[...]`` bool; a position that is False never influences a loss.
        taps: tensors by tap name: ``hidden.i``, ``embedding``, ``query.i``, ``key.i`` and ``value.i`` ``[B, L, D]``,
            ``attention.i`` ``[B, H, L, L]``, ``pooled`` ``[B, D]``; of an ensemble ``logits.<name>`` ``[B, C]``.
        tokens: ``[B, L]`` bool, the real tokens, for taps with a token axis.
        count: what :meth:`mean` divides by: the positions of the whole optimizer step divided by its number of
            micro-batches (over accumulation and devices), so that the mean of micro-batch losses is the loss of the
            whole. None: the positions in ``mask``.
        label: class numbers ``[...]``, or several labels ``[..., C]`` of 0 and 1; -1 where a position has none. Or real
            numbers ``[...]``; nan where a position has none.
        row: ``[B]`` int64, the ids of the rows.
        weight: ``[...]``, by which :meth:`mean` multiplies; None: all count alike.
    """

    logits: Tensor
    mask: Tensor
    taps: dict[str, Tensor] = field(default_factory=dict)
    tokens: Tensor | None = None
    count: float | None = None
    label: Tensor | None = None
    row: Tensor | None = None
    weight: Tensor | None = None

    @property
    def labelled(self) -> Tensor:
        """``[...]`` bool: the positions that count and have a label."""
        if self.label is None:
            return torch.zeros_like(self.mask)
        if self.label.shape != self.mask.shape:
            return self.mask & (self.label >= 0).all(-1)
        return self.mask & (self.label.isfinite() if self.label.is_floating_point() else self.label >= 0)

    def mean(self, values: Tensor) -> Tensor:
        """The masked mean: a scalar.

        Args:
            values: ``mask.shape``, or ``tokens.shape``, which is first averaged over the real tokens of each row.
        """
        if values.shape != self.mask.shape:
            if self.tokens is None or values.shape != self.tokens.shape:
                raise ValueError(f"values {tuple(values.shape)} match neither mask {tuple(self.mask.shape)} nor tokens")
            real = self.tokens
            values = values.where(real, 0).sum(-1) / real.sum(-1).clamp(min=1)
        values = values if self.weight is None else values * self.weight
        count = self.mask.sum().clamp(min=1) if self.count is None else self.count
        return values.where(self.mask, 0).sum() / count

    def weighed(self, level: float | Tensor) -> tuple[Output, float | Tensor]:
        """The output and a factor, by which a mean over the rows becomes one in which each counts as ``level`` says.

        Args:
            level: a number, which is the factor; or ``mask.shape``, without gradient: then the factor is its mean, and
                the rows count in proportion to it.
        """
        if not isinstance(level, Tensor):
            return self, level
        mean = level.where(self.mask, 0).sum() / self.mask.sum().clamp(min=1)
        share = level / mean.clamp(min=torch.finfo(level.dtype).tiny)
        return replace(self, weight=share if self.weight is None else share * self.weight), mean

    def only(self, mask: Tensor, count: float | None = None) -> Output:
        """The same output where just the positions in ``mask`` count."""
        return replace(self, mask=self.mask & mask, count=count)


def clean(batch: Batch) -> Batch:
    """The batch without what augmentation did to it: what teachers read, stored or live."""
    return batch | batch.get("clean", {})


def widen(values: Tensor) -> Tensor:
    """``values`` in float32, or as they are where that is wider: what losses compute in under half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
