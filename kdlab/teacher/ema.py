"""A teacher that is an exponential moving average of the student's weights."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.model.tap import TapReaders
from kdlab.output import Output
from kdlab.schedule.base import Schedule, bounds, format_range, value_at
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher


@final
class Ema(Teacher):
    """The mean teacher: after each optimizer step ``w <- decay * w + (1 - decay) * student``, from the student's start.

    It runs without dropout. Its weights are in the checkpoint, and are not saved with the model.

    Args:
        student: the model that learns.
        task: reads it.
        data: a datamodule after ``setup``, for the widths of the taps.
        taps: the tap names that the objective reads.
        store: not used, since its outputs change.
        decay: in [0, 1], a number or a schedule; 0 is the student itself, 1 stays as it began.

    Source: Tarvainen, Valpola 2017, arXiv:1703.01780, section 2.
    """

    follows = True
    chunks = True

    def __init__(
        self, student: nn.Module, task: Task, data: Data, taps: Collection[str], store: Path, decay: float | Schedule
    ) -> None:
        low, high = bounds(decay, "teacher.decay")
        if not 0 <= low <= high <= 1:
            raise UserError(
                f"teacher.decay {format_range(low, high)}, but must stay in [0, 1]: 0.99 is common for short runs"
            )
        self.model = copy.deepcopy(student).eval().requires_grad_(False)
        self.readers, self.decay, self.taps = TapReaders(self.model), decay, frozenset(taps)
        probe = self.read(task, data.every_row(256)[0])
        self._widths = {name: tap.shape[-1] for name, tap in probe.taps.items()}

    @torch.no_grad()
    def read(self, task: Task, batch: Batch) -> Output:
        self.model.to(batch.device)
        with self.readers.use(self.taps):
            return task.read(self.model, batch.original, self.taps)

    def widths(self) -> Mapping[str, int]:
        return self._widths

    @torch.no_grad()
    def follow(self, student: nn.Module, progress: float) -> None:
        share = 1 - value_at(self.decay, progress)
        for average, weight in zip(self.model.parameters(), student.parameters(), strict=True):
            average.lerp_(weight.to(average), share)
        for copied, buffer in zip(self.model.buffers(), student.buffers(), strict=True):
            copied.copy_(buffer)

    def state(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.model.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict(state)
