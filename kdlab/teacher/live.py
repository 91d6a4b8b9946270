"""A teacher that runs on each batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import final

import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.model.tap import TapReaders
from kdlab.output import Output
from kdlab.store.logits import largest
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher
from kdlab.top_k import TEMPERATURES, checked
from kdlab.value import Count, Positive


@final
class Live(Teacher):
    """Runs the model on every batch: needed where the teacher reads a row differently from epoch to epoch.

    Args:
        model: the trained teacher; put in eval mode, its parameters frozen.
        task: reads it.
        data: a datamodule after ``setup``, for the widths of the taps.
        taps: the tap names that the objective reads.
        store: not used; every teacher is given the folder of all stores.
        top_k: the number of largest logits that are returned, as a store would keep them; None: all.
        temperatures: at which the mass of the others is then computed.
    """

    chunks = True

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        data: Data,
        taps: Collection[str],
        store: Path,
        top_k: Count | None = None,
        temperatures: Sequence[Positive] = TEMPERATURES,
    ) -> None:
        checked(top_k, temperatures)
        self.model = model.eval().requires_grad_(False)
        self.readers, self.taps = TapReaders(self.model), frozenset(taps)
        self.top_k, self.temperatures = top_k, temperatures
        probe = self.read(task, data.every_row(256)[0])
        self._widths = {name: tap.shape[-1] for name, tap in probe.taps.items()}

    @property
    def models(self) -> Mapping[str, nn.Module]:
        return {"teacher": self.model}

    @torch.no_grad()
    def read(self, task: Task, batch: Batch) -> Output:
        self.model.to(batch.device)
        with self.readers.use(self.taps):
            output = task.read(self.model, batch.original, self.taps)
        return output if self.top_k is None else largest(output, task.chunk, self.top_k, self.temperatures)

    def widths(self) -> Mapping[str, int]:
        return self._widths
