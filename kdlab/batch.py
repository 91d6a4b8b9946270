"""A batch of rows: the inputs of a model, the targets of its predictions, and the sizes that means divide by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

ANSWER = "answer"  # of a batch's targets: [B, L] bool, the tokens that answer a prompt


@dataclass(frozen=True)
class Batch:
    """Some rows of a data set. It moves to a device as a whole, and is the same for every modality.

    Attributes:
        row: ``[B]`` int64, the ids of the rows.
        inputs: the keyword arguments of the model's ``forward``, such as ``input_ids`` or ``pixel_values``.
        target: the answers that predictions are compared with, by the task's own names, such as ``label`` ``[B]``.
        size: the divisors of means over a whole optimizer step, divided by the number of its micro-batches: ``rows``,
            ``labelled`` (answers that are known), ``positions`` (of the token axis) and ``tokens`` (those that a
            language model predicts). Empty where a batch is no part of a larger step.
        tokens: ``[B, L]`` bool, the real positions of the inputs' token axis; None where rows have no such axis.
        clean: the same rows before augmentation, which teachers read; None: these are.
        view: the epoch whose augmentation teachers read too; None: they read clean rows.

    Example:
        >>> batch = Batch(torch.arange(2), {"pixel_values": torch.ones(2, 3)}, {"label": torch.tensor([1, 0])})
        >>> len(batch), batch.to("cpu").device.type
        (2, 'cpu')
    """

    row: Tensor
    inputs: dict[str, Tensor]
    target: dict[str, Tensor] = field(default_factory=dict)
    size: Mapping[str, float] = field(default_factory=dict)
    tokens: Tensor | None = None
    clean: Batch | None = None
    view: int | None = None

    def __len__(self) -> int:
        return len(self.row)

    @property
    def device(self) -> torch.device:
        """The device of the inputs."""
        return next(iter(self.inputs.values()), self.row).device

    @property
    def original(self) -> Batch:
        """The batch that teachers read, stored or live: the rows before augmentation."""
        return self if self.clean is None else self.clean

    @property
    def length(self) -> int:
        """The number of positions of the token axis, padding included; 0 without such an axis."""
        return 0 if self.tokens is None else self.tokens.shape[1]

    def to(self, device: torch.device | str, **how: Any) -> Batch:
        """The batch on a device.

        Args:
            how: further arguments of ``Tensor.to``, such as ``non_blocking``.
        """
        return self.map(lambda value: value.to(device, **how))

    def pin_memory(self) -> Batch:
        """The batch in pinned memory: a copy from there to a GPU does not wait for it."""
        return self.map(Tensor.pin_memory)

    def rows(self, some: slice | Tensor) -> Batch:
        """A batch of some of the rows, which is no part of a step."""
        return replace(self.map(lambda value: value[some]), size={})

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed; a tensor that is used twice is changed once."""
        known: dict[int, Tensor] = {}

        def once(value: Tensor) -> Tensor:
            if id(value) not in known:
                known[id(value)] = change(value)
            return known[id(value)]

        def changed(batch: Batch) -> Batch:
            return replace(
                batch,
                row=once(batch.row),
                inputs={name: once(value) for name, value in batch.inputs.items()},
                target={name: once(value) for name, value in batch.target.items()},
                tokens=None if batch.tokens is None else once(batch.tokens),
                clean=None if batch.clean is None else changed(batch.clean),
            )

        return changed(self)
