"""A teacher that was asked once about every row, and whose answers are read from disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, final

import torch

from kdlab.error import UserError
from kdlab.inference import TYPES, rows_digest, say, tensor
from kdlab.output import Batch, Output, clean
from kdlab.precision import current
from kdlab.store import ensure, key
from kdlab.task.base import Task
from kdlab.teacher.base import Saved, Teacher


@final
class Cached(Teacher):
    """Reads stored targets by row; equal to a live teacher to rounding, since a frozen teacher repeats itself.

    The model is loaded only where its answers are not stored yet. They are computed in the precision of the run.

    Args:
        trained: the trained teacher; asked once about every row of the data, by one process.
        task: how to read it.
        data: a datamodule after ``setup``.
        taps: the tap names that the objective reads, stored beside the logits.
        store: the folder of all stores.
        tokens_per_batch: how many tokens a batch of the teacher pass holds.
        dtype: of the stored taps, ``float32`` (as computed), ``float16`` or ``bfloat16`` (half the disk). Logits are
            always stored in float32.
    """

    def __init__(
        self,
        trained: Saved,
        task: Task,
        data: Any,
        taps: Collection[str],
        store: Path,
        tokens_per_batch: int = 4096,
        dtype: str = "float32",
    ) -> None:
        if dtype not in TYPES:
            raise UserError(f"teacher.dtype is '{dtype}', but must be one of {', '.join(TYPES)}.")
        self.taps = frozenset(taps)
        content = {
            "teacher": trained.fingerprint,
            "taps": sorted(taps),
            "data": data.fingerprint,
            "rows": rows_digest(data),
            "precision": current(),
            "dtype": dtype if taps else "float32",
        }
        self.store = ensure(
            store,
            key(**content),
            content | {"of": trained.id},
            data.lengths,
            lambda done: say(trained.model, task, data, self.taps, tokens_per_batch, dtype, done),
        )
        self.seconds = self.store.seconds

    def read(self, task: Task, batch: Batch) -> Output:
        device = batch["input_ids"].device
        rows, length = batch["row"].cpu().numpy(), batch["input_ids"].shape[1]

        def stored(name: str) -> torch.Tensor:
            return tensor(self.store.gather(name, rows, length), self.store.dtype(name)).to(device)

        logits = stored("logits")
        return Output(
            logits=logits,
            mask=torch.ones(logits.shape[:-1], dtype=torch.bool, device=device),
            taps={name: stored(name) for name in self.taps},
            tokens=clean(batch)["attention_mask"].bool(),
            count=batch.get("rows"),
            label=batch.get("label"),
            row=batch.get("row"),
        )

    def widths(self) -> Mapping[str, int]:
        return {name: self.store.arrays[name].shape[-1] for name in self.taps}
