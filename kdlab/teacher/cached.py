"""A teacher that was asked once about every row, and whose answers are read from disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.model.save import weights_sha256
from kdlab.output import Batch, Output
from kdlab.store import Part, Store, ensure, key, storable
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher


@final
class Cached(Teacher):
    """Reads stored targets by row; equal to a live teacher to rounding, since a frozen teacher repeats itself.

    Args:
        model: the trained teacher; asked once about every row of the data, by one process, and only where its answers
            are not stored yet.
        task: how to read it.
        data: a datamodule after ``setup``.
        taps: the tap names that the objective reads, stored beside the logits.
        store: the folder of all stores.
        tokens_per_batch: how many tokens a batch of the teacher pass holds.
    """

    def __init__(
        self, model: nn.Module, task: Task, data: Any, taps: Collection[str], store: Path, tokens_per_batch: int = 4096
    ) -> None:
        self.taps = frozenset(taps)
        self.store = stored_targets(store, model, task, data, self.taps, tokens_per_batch)
        self.seconds = self.store.seconds

    @classmethod
    def accept(cls, taps: Collection[str]) -> None:
        storable(taps)

    def read(self, task: Task, batch: Batch) -> Output:
        device = batch["input_ids"].device
        rows, length = batch["row"].cpu().numpy(), batch["input_ids"].shape[1]

        def stored(name: str) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(self.store.gather(name, rows, length))).to(device)

        logits = stored("logits")
        return Output(
            logits=logits,
            mask=torch.ones(logits.shape[:-1], dtype=torch.bool, device=device),
            taps={name: stored(name) for name in self.taps},
            tokens=batch["attention_mask"].bool(),
            count=batch.get("rows"),
            label=batch.get("label"),
            row=batch.get("row"),
        )

    def widths(self) -> Mapping[str, int]:
        return {name: self.store.arrays[name].shape[-1] for name in self.taps}


def rows_digest(data: Any) -> str:
    """A hash of which rows of the data are in use."""
    return hashlib.sha256(data.used.astype(np.int64).tobytes()).hexdigest()[:16]


def stored_targets(root: Path, model: nn.Module, task: Task, data: Any, taps: Collection[str], tokens: int) -> Store:
    """The store of a teacher's logits and taps over all rows of a data set, built where it is missing."""
    storable(taps)
    names = sorted(taps)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    describe = {"teacher": weights_sha256(model), "taps": names, "data": data.fingerprint, "rows": rows_digest(data)}

    @torch.inference_mode()
    def build() -> Iterable[Part]:
        teacher, threads = model.eval().to(device), torch.get_num_threads()
        torch.set_num_threads(len(os.sched_getaffinity(0)))  # whoever else needs these targets waits for this pass
        try:
            for batch in data.every_row(tokens):
                moved = {
                    name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()
                }
                output = task.read(teacher, moved, names)
                real = moved["attention_mask"].bool()
                per_row, per_token = {"logits": output.logits.float().cpu().numpy()}, {}
                for name, tap in output.taps.items():
                    if tap.dim() == 3 and tap.shape[:2] == real.shape:
                        per_token[name] = tap[real].float().cpu().numpy()
                    else:
                        per_row[name] = tap.float().cpu().numpy()
                yield batch["row"].numpy(), per_row, per_token
        finally:
            torch.set_num_threads(threads)

    return ensure(root, key(**describe), describe, data.lengths, build)
