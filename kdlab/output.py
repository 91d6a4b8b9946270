"""The output of a model on a batch, and the one place where losses are averaged."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from kdlab.alignment import Alignment
from kdlab.error import UserError
from kdlab.top_k import TopK


@dataclass(frozen=True)
class Output:
    """Logits, the positions that count, and the taps that are read.

    Attributes:
        logits: ``[..., C]``; where ``head`` is given, the hidden states ``[..., D]`` from which it computes logits.
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
        weight: ``[...]``, by which :meth:`mean` multiplies; None: 1 everywhere.
        head: computes the logits, for some positions at a time (see :meth:`select`); None: ``logits`` has them.
        sides: by tap, ``[B, S]`` bool, the real positions of its axis of positions, for taps whose axis is not that of
            ``tokens``, such as those of an encoder beside a decoder.
        top: the largest logits of a teacher where only these are kept; ``logits`` has their values. None: all are kept.
        alignment: of a teacher with other tokens than the student: which of its positions are about which of the
            student's. None: position by position.

    Example: the second row does not count:
        >>> output = Output(torch.zeros(2, 3), mask=torch.tensor([True, False]))
        >>> float(output.mean(torch.tensor([2.0, 9.0])))
        2.0
        >>> both = Output(torch.zeros(2, 3), mask=torch.tensor([True, True]))
        >>> weighted, mean = both.with_row_weights(torch.tensor([1.0, 3.0]))  # factor * mean is the mean of level * x
        >>> float(mean * weighted.mean(torch.tensor([2.0, 9.0])))
        14.5
    """

    logits: Tensor
    mask: Tensor
    taps: dict[str, Tensor] = field(default_factory=dict)
    tokens: Tensor | None = None
    count: float | None = None
    label: Tensor | None = None
    row: Tensor | None = None
    weight: Tensor | None = None
    head: Callable[[Tensor], Tensor] | None = None
    top: TopK | None = None
    sides: dict[str, Tensor] = field(default_factory=dict)
    alignment: Alignment | None = None

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
                Where rows have no tokens, axes after those of the mask, such as an image's, are averaged first.
        """
        if self.tokens is None and values.shape[: self.mask.ndim] == self.mask.shape and values.ndim > self.mask.ndim:
            values = values.flatten(self.mask.ndim).mean(-1)
        if values.shape != self.mask.shape:
            if self.tokens is None or values.shape != self.tokens.shape:
                if values.shape == self.mask.shape[:1]:
                    raise UserError(
                        "A loss term gives one value a row, but this task has one a token, which it cannot be weighed "
                        "against: leave the term out, or use one that compares tokens, such as kl or hint."
                    )
                raise ValueError(f"values {tuple(values.shape)} match neither mask {tuple(self.mask.shape)} nor tokens")
            real = self.tokens
            values = values.where(real, 0).sum(-1) / real.sum(-1).clamp(min=1)
        values = values if self.weight is None else values * self.weight
        count = self.mask.sum().clamp(min=1) if self.count is None else self.count
        return values.where(self.mask, 0).sum() / count

    def with_row_weights(self, level: float | Tensor) -> tuple[Output, float | Tensor]:
        """Split a weight for each row into normalised row weights and a scalar.

        ``factor * output.mean(x)`` of the result is the mean of ``level * x``.

        Args:
            level: a number, which is the factor; or ``mask.shape``, without gradient: then the factor is its mean.

        Returns:
            The output with these row weights, and the factor.
        """
        if not isinstance(level, Tensor):
            return self, level
        mean = level.where(self.mask, 0).sum() / self.mask.sum().clamp(min=1)
        share = level.where(self.mask, 0) / mean.clamp(min=torch.finfo(level.dtype).tiny)
        return replace(self, weight=share if self.weight is None else share * self.weight), mean

    @property
    def teacher_parts(self) -> tuple[Tensor, ...]:
        """The known parts of a teacher's logits: all ``[..., C]``, or index, value and, at temperature 1, tail."""
        return (self.logits,) if self.top is None else (self.top.index, self.top.value, self.top.at(1.0))

    @property
    def positions(self) -> Tensor:
        """``[N]`` int64: the indices of the positions that count, in the flattened mask."""
        return self.mask.flatten().nonzero()[:, 0]

    def select(self, positions: Tensor) -> Output:
        """An output of some positions ``[N]`` alone, with their logits ``[N, C]`` and without taps.

        Means of such parts add up to the mean of the whole.
        """

        def flat(values: Tensor) -> Tensor:
            return values.flatten(0, self.mask.ndim - 1)[positions]

        logits = flat(self.logits)
        return Output(
            logits=logits if self.head is None else self.head(logits),
            mask=flat(self.mask),
            count=float(self.mask.sum().clamp(min=1)) if self.count is None else self.count,
            label=None if self.label is None else flat(self.label),
            weight=None if self.weight is None else flat(self.weight),
            top=None if self.top is None else self.top.map(flat),
        )

    def cleared(self, names: Collection[str], dtype: torch.dtype, like: Output) -> Output:
        """The output in one number format, with zeros at positions that do not count: NaN or infinity there reaches
        neither a value nor a gradient.

        Args:
            names: the taps that are read; the others stay as they are.
            dtype: the number format of the logits and of these taps.
            like: the output whose mask is used, and whose tokens are where this one has none; one with positions of
                its own keeps to its own.
        """
        like = self if self.alignment is not None else like
        tokens = like.tokens if self.tokens is None else self.tokens
        rows = like.mask.flatten(1).any(1) if like.mask.ndim > 1 else like.mask
        every = like.mask.device.type == "cpu" and bool(like.mask.all())  # a GPU would have to wait for the answer

        def clear(values: Tensor) -> Tensor:
            return values.to(dtype).where(_counting(values, rows, tokens), 0)

        def clear_positions(values: Tensor) -> Tensor:
            """The values with zeros outside the mask."""
            if not values.is_floating_point() or values.shape[: like.mask.ndim] != like.mask.shape:
                return values
            if every:
                return values.to(dtype)
            return values.to(dtype).where(like.mask.view(*like.mask.shape, *[1] * (values.ndim - like.mask.ndim)), 0)

        taps = {name: clear(tap) if name in names else tap for name, tap in self.taps.items()}
        logits, top = self.logits, self.top
        return replace(
            self,
            logits=logits if self.head else clear_positions(logits),
            taps=taps,
            top=None if top is None else top.map(clear_positions),
        )

    def along(self, names: Collection[str]) -> Output:
        """The output whose tokens are the positions of the axis that these taps have.

        A mean over it is one over rows, each of which counts as often as it has predictions, so that the means of
        micro-batches add up to that of the whole.

        Args:
            names: of taps, all of which are along one axis.

        Raises:
            UserError: they are not.

        Example: the row has three positions on its second axis, of which two are real:
            >>> side = torch.tensor([[True, True, False]])
            >>> output = Output(torch.zeros(1, 1, 2), torch.ones(1, 1).bool(), sides={"encoder.hidden.0": side})
            >>> float(output.along(["encoder.hidden.0"]).mean(torch.tensor([[1.0, 2.0, 9.0]])))
            1.5
        """
        other = [name for name in names if name in self.sides]
        if not other:
            return self
        if len(other) < len(names) or len({id(self.sides[name]) for name in other}) > 1:
            raise UserError(
                f"A loss term reads the taps {', '.join(names)} together, whose positions are not those of one axis: "
                "give a term taps of one side, the encoder or the decoder"
            )
        counted = self.mask.flatten(1) if self.mask.ndim > 1 else self.mask[:, None]
        weight = counted if self.weight is None else self.weight.reshape(counted.shape).where(counted, 0)
        return replace(
            self,
            mask=counted.any(1),
            tokens=self.sides[other[0]],
            count=float(counted.sum().clamp(min=1)) if self.count is None else self.count,
            weight=weight.to(torch.float32).sum(1),
            label=None,
        )

    def restrict(self, mask: Tensor, count: float | None = None) -> Output:
        """The same output, in which only the positions that are also in ``mask`` count."""
        return replace(self, mask=self.mask & mask, count=count)


def _counting(tap: Tensor, rows: Tensor, tokens: Tensor | None) -> Tensor:
    """A bool mask, with the dimensions of a tap ``[B, ...]``, of the rows that count and of their real tokens."""
    if tap.shape[:1] != rows.shape:
        return rows.new_ones([1] * tap.ndim)
    keep = rows.view(-1, *[1] * (tap.ndim - 1))
    if tokens is None or tokens.shape[:1] != rows.shape:
        return keep
    length = tokens.shape[1]
    if tap.ndim == 4 and tap.shape[2:] == (length, length):  # attention: pairs of tokens
        return keep & tokens[:, None, :, None] & tokens[:, None, None]
    if tap.ndim > 2 and tap.shape[1] == length:
        return keep & tokens.view(*tokens.shape, *[1] * (tap.ndim - 2))
    return keep


def at_least_float32(values: Tensor) -> Tensor:
    """``values`` in float32, or unchanged where they are wider: losses compute in it under half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
