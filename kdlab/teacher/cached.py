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
from kdlab.store import Store, afford, ensure, key
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
        epochs: of the run. Where the teacher reads augmented rows (``datamodule.augment.teacher``), what it says of
            every training row in each of them is stored as well, in a store an epoch, which longer runs share.
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
        epochs: int | None = 0,
    ) -> None:
        if dtype not in TYPES:
            raise UserError(f"teacher.dtype is '{dtype}', but must be one of {', '.join(TYPES)}.")
        if data.augmented and (epochs is None or epochs < 0):
            raise UserError(
                f"teacher=cached with datamodule.augment.teacher=augmented stores what the teacher says of a row in "
                f"each epoch, but trainer.max_epochs={epochs} does not say how many there are: set it, or use "
                "teacher=live"
            )
        self.taps = frozenset(taps)

        def content(seen: Any) -> dict[str, Any]:
            return {
                "teacher": trained.fingerprint,
                "taps": sorted(taps),
                "data": seen.fingerprint,
                "rows": rows_digest(seen),
                "precision": current(),
                "dtype": dtype if taps else "float32",
            }

        def stored(seen: Any) -> Store:
            return ensure(
                store,
                key(**content(seen)),
                content(seen) | {"of": trained.id},
                seen.lengths,
                lambda done: say(trained.model, task, seen, self.taps, tokens_per_batch, dtype, done),
            )

        self.store = stored(data)
        views = [data.seen(epoch) for epoch in range(epochs or 0)] if data.augmented else []
        missing = [seen for seen in views if not (store / key(**content(seen))).exists()]
        if missing:
            afford(self.store, missing[0].lengths, len(missing))
        self.stores = {None: self.store} | {seen.epoch: stored(seen) for seen in views}
        self.seconds = sum(one.seconds for one in self.stores.values())

    def read(self, task: Task, batch: Batch) -> Output:
        device = batch["input_ids"].device
        rows, length = batch["row"].cpu().numpy(), batch["input_ids"].shape[1]
        store = self.stores[batch.get("view")]

        def stored(name: str) -> torch.Tensor:
            return tensor(store.gather(name, rows, length), store.dtype(name)).to(device)

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
