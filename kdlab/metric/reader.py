"""Runs a model on rows that an evaluator chooses, or on changed values, as the model reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.batch import Batches, EncodedRows, within
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.base import Processor
from kdlab.datamodule.target import Labels
from kdlab.output import Output
from kdlab.task.base import Task

TOKENS = {"cpu": 4096, "cuda": 32768}  # of a batch, padding included


class Reader:
    """The rows of a data set for one model.

    Args:
        task: reads the model.
        data: has the rows.
        processor: makes the model's inputs; None: that of the data.
    """

    def __init__(self, task: Task, data: Data, processor: Processor | None = None) -> None:
        self.task, self.data = task, data
        own = data.processor
        self.processor = own if processor is None or own.equals(processor) else processor

    def rows(self, index: Sequence[int] | np.ndarray, tokens: int = TOKENS["cpu"]) -> Batches:
        """Rows of the data, with their labels."""
        same = self.processor is self.data.processor
        encoded = self.data.encoded_rows() if same else self.data.retokenized(self.processor).encoded
        return within(encoded, np.asarray(index, dtype=np.int64), tokens)

    def values(self, values: Sequence[Any], tokens: int = TOKENS["cpu"]) -> Batches:
        """New values, without labels; the id of a row is its place among them."""
        rows = EncodedRows(self.processor.encode_new(values), Labels((), np.full(len(values), -1, np.int64)))
        return within(rows, np.arange(len(values)), tokens)

    def outputs(self, model: nn.Module, batches: Batches, taps: Collection[str] = ()) -> Iterator[tuple[Batch, Output]]:
        """Each batch and the model's output on it, without gradients."""
        device = next(model.parameters()).device
        with still(model), torch.no_grad():
            for batch in batches:
                here = batch.to(device)
                yield here, self.task.read(model, here, taps)

    def logits(self, model: nn.Module, values: Sequence[Any]) -> Tensor:
        """``[N, C]`` float32 on the CPU, of new values in their order."""
        found = {
            int(row): one
            for batch, output in self.outputs(model, self.values(values))
            for row, one in zip(batch.row.tolist(), output.logits.float().cpu(), strict=True)
        }
        return torch.stack([found[place] for place in range(len(values))])


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """Meanwhile the model is in eval mode and in the precision of its weights, as with mixed precision the result of a
    row depends on those beside it; afterwards the mode of each module is as before."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    device = next(model.parameters()).device
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
