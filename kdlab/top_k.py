"""The largest logits of a distribution over many classes, and how much mass the others have together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.error import UserError

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class TopK:
    """The k largest logits of ``[..., C]`` and the mass of the others: enough for divergences of k + 1 outcomes.

    Attributes:
        index: ``[..., k]`` int64, the classes of the largest logits, largest first.
        value: ``[..., k]``, these logits, less the largest of them (a softmax does not see that).
        tail: ``[..., n]``, by temperature T the ``logsumexp`` of the other logits divided by T, on the same scale.
        temperatures: the n temperatures.
    """

    index: Tensor
    value: Tensor
    tail: Tensor
    temperatures: tuple[float, ...]

    @classmethod
    def of(cls, logits: Tensor, k: int, temperatures: Sequence[float] = TEMPERATURES) -> TopK:
        """The k largest of ``logits`` ``[..., C]``, or all where there are fewer; then the tail is -inf.

        Half precision is computed in float32.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        value, index = logits.topk(min(k, logits.shape[-1]), -1)
        largest = value[..., :1]
        others = (logits - largest).scatter(-1, index, -torch.inf)
        tail = torch.stack([(others / temperature).logsumexp(-1) for temperature in temperatures], -1)
        return cls(index, value - largest, tail, tuple(float(one) for one in temperatures))

    def at(self, temperature: float) -> Tensor:
        """The tail ``[...]`` at a temperature.

        Raises:
            UserError: it is not one of those that are kept.
        """
        return self.tail[..., temperature_index(temperature, self.temperatures)]

    def map(self, change: Callable[[Tensor], Tensor]) -> TopK:
        """The same with every tensor changed."""
        return TopK(change(self.index), change(self.value), change(self.tail), self.temperatures)


def temperature_index(temperature: float, temperatures: Sequence[float]) -> int:
    """The index of a temperature among ``temperatures``.

    Raises:
        UserError: none.
    """
    for index, kept in enumerate(temperatures):
        if abs(kept - temperature) <= 1e-6 * kept:
            return index
    known = ", ".join(f"{one:g}" for one in temperatures)
    raise UserError(
        f"a loss term asks for temperature {temperature:g}, but the tail of the teacher's logits is kept for {known}: "
        "add it to teacher.temperatures (the store is built once more)"
    )


def checked(k: int | None, temperatures: Sequence[float]) -> None:
    """Check what a teacher is asked to keep.

    Raises:
        UserError: k is below 1, or a temperature is not above 0 or there twice, or 1, which fidelity takes, is lacking.
    """
    if k is None:
        return
    if k < 1:
        raise UserError(f"teacher.top_k is {k}, but must be 1 or more, or null for all logits")
    given = [float(one) for one in temperatures]
    if 1.0 not in given or len(set(given)) < len(given) or not all(0 < one < float("inf") for one in given):
        raise UserError(
            f"teacher.temperatures is {given}, but must name different temperatures above 0, among them 1, at which "
            "fidelity is measured: [1, 2, 4, 8] is the default"
        )
