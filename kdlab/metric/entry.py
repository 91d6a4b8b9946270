"""Where a model's input is made of real numbers, which can be scaled and hidden: word embeddings, or pixels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.task.base import Task

GRID = 8  # patches on each side of an image


class Entry:
    """The real-valued input of a model on a batch, and its units: the tokens of a text, or patches of an image.

    Args:
        task: reads the model.
        model: in eval mode.
        batch: on the model's device.

    Attributes:
        values: ``[B, L, D]`` word embeddings, or ``[B, C, H, W]`` pixels, without a graph; None: there are none.
        real: ``[B, U]`` bool, the units that are no padding.
    """

    values: Tensor | None
    real: Tensor

    def __init__(self, task: Task, model: nn.Module, batch: Batch) -> None:
        self.task, self.model, self.batch = task, model, batch
        self.name = next((name for name, one in batch.inputs.items() if one.is_floating_point() and one.ndim == 4), "")
        find = getattr(model, "get_input_embeddings", None)
        self.table: nn.Module | None = find() if find is not None and not self.name else None
        self.values = batch.inputs[self.name].detach() if self.name else self._embeddings()
        if self.name:
            height, width = batch.inputs[self.name].shape[2:]
            down, right = (torch.arange(side, device=batch.device) * GRID // side for side in (height, width))
            self.patch = down[:, None].clamp(max=GRID - 1) * GRID + right
            self.real = torch.ones(len(batch), GRID**2, dtype=torch.bool, device=batch.device)
        elif batch.tokens is not None:
            self.real = batch.tokens

    def _embeddings(self) -> Tensor | None:
        """What the table gives; None: there is none, it never runs, or its axes are others than the batch's."""
        if not isinstance(self.table, nn.Module) or self.batch.tokens is None:
            return None
        found: list[Tensor] = []
        handle = self.table.register_forward_hook(lambda module, args, output: found.append(output))
        try:
            with torch.no_grad():
                self.task.read(self.model, self.batch)
        finally:
            handle.remove()
        fits = len(found) == 1 and found[0].shape[:-1] == self.batch.tokens.shape
        return found[0].detach() if fits else None

    def logits(self, values: Tensor) -> Tensor:
        """``[B, C]`` of other values, of the shape of :attr:`values`."""
        if self.name:
            changed = replace(self.batch, inputs={**self.batch.inputs, self.name: values})
            return self.task.read(self.model, changed).logits.float()
        assert self.table is not None
        handle = self.table.register_forward_hook(lambda module, args, output: values.to(output))
        try:
            return self.task.read(self.model, self.batch).logits.float()
        finally:
            handle.remove()

    def by_unit(self, values: Tensor) -> Tensor:
        """``[B, U]`` the sum of values of the shape of :attr:`values` over each unit; 0 at padding."""
        if self.name:
            flat = values.sum(1).flatten(1)
            found = flat.new_zeros(len(flat), GRID**2).index_add_(1, self.patch.flatten(), flat)
        else:
            found = values.sum(-1)
        return found.where(self.real, 0)

    def hidden(self, units: Tensor) -> Tensor:
        """The values with zeros in some units ``[B, U]`` bool."""
        assert self.values is not None
        gone = units[:, self.patch][:, None] if self.name else units[..., None]
        return self.values.where(~gone, 0)
