"""A teacher whose outputs on all rows were computed once and are read from disk."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, final

import torch

from kdlab.batch import Batch
from kdlab.datamodule.augmented import AugmentedRows
from kdlab.datamodule.data import Data
from kdlab.datamodule.retokenized import RetokenizedRows
from kdlab.error import UserError
from kdlab.output import Output
from kdlab.precision import current
from kdlab.store.array import TYPES, tensor
from kdlab.store.build import TargetChunk, check_space, open_or_build
from kdlab.store.inference import rows_digest, run_inference
from kdlab.store.logits import logit_format
from kdlab.store.store import Store, key
from kdlab.task.base import Task
from kdlab.teacher.base import Saved, Teacher
from kdlab.top_k import TEMPERATURES, checked
from kdlab.value import Count, Positive


@final
class Cached(Teacher):
    """Reads stored outputs by row. They equal those of a live teacher to rounding, as a frozen teacher does not change.

    The model is loaded only where its outputs are not stored yet. They are computed in the precision of the run. Of a
    language model, logits are stored for the tokens that are asked: of dialogues, those of the answers.

    Args:
        trained: the trained teacher; it runs once on every row of the data.
        task: reads it.
        data: a datamodule after ``setup``.
        taps: the tap names that the objective reads, stored beside the logits.
        store: the folder of all stores.
        tokens_per_batch: the number of tokens in a batch of the teacher pass.
        dtype: of the stored taps, ``float32`` (as computed), ``float16`` or ``bfloat16`` (half the disk). All logits
            are stored in float32.
        top_k: the number of largest logits of a row or token that are stored, with the mass of the others; None: all.
        temperatures: at which the mass of the others is stored.
        top_k_dtype: of the largest logits, ``packed`` (in about six bits, with a bounded error, see
            :class:`kdlab.store.packed.Packing`), ``float32`` (as computed), ``float16`` or ``bfloat16``.
        epochs: the number of epochs of the run. Where the teacher reads augmented rows
            (``datamodule.augment.teacher``), its outputs on the training rows of each epoch are stored too, in a store
            for each epoch, which longer runs share.
    """

    chunks = True
    reads_new_rows = False

    def __init__(
        self,
        trained: Saved,
        task: Task,
        data: Data | RetokenizedRows,
        taps: Collection[str],
        store: Path,
        tokens_per_batch: Count = 4096,
        dtype: Literal["float32", "float16", "bfloat16"] = "float32",
        top_k: Count | None = None,
        temperatures: Sequence[Positive] = TEMPERATURES,
        top_k_dtype: Literal["packed", "float32", "float16", "bfloat16"] = "packed",
        epochs: int | None = 0,
    ) -> None:
        if dtype not in TYPES:
            raise UserError(f"teacher.dtype is '{dtype}', but must be one of {', '.join(TYPES)}.")
        if top_k_dtype not in ("packed", *TYPES):
            raise UserError(f"teacher.top_k_dtype is '{top_k_dtype}', but must be one of packed, {', '.join(TYPES)}.")
        checked(top_k, temperatures)
        if data.augmented and (epochs is None or epochs < 0):
            raise UserError(
                f"teacher=cached with datamodule.augment.teacher=augmented stores the teacher's output on a row in "
                f"each epoch, but trainer.max_epochs={epochs} gives no number of epochs: set it, or use "
                "teacher=live"
            )
        self.taps = frozenset(taps)
        self.top_k = top_k
        self.logits = logit_format(top_k, temperatures, top_k_dtype)
        asked = task.unit != "row" and not task.uses_labels  # the rows alone decide which positions count

        def content(seen: Any) -> dict[str, Any]:
            found = {
                "teacher": trained.fingerprint,
                "taps": sorted(taps),
                "data": seen.fingerprint,
                "rows": rows_digest(seen),
                "precision": current(),
                "dtype": dtype if taps else "float32",
            }
            if task.unit != "row" or top_k:
                kept = [float(one) for one in temperatures] if top_k else []
                found |= {"task": task.kind, "top_k": top_k, "temperatures": kept}
            return found | ({"top_k_dtype": top_k_dtype} if top_k else {})

        def stored(seen: Any) -> Store:
            batches, lengths = seen.every_row(tokens_per_batch), seen.lengths

            def build(numbers: Iterator[int]) -> Iterator[TargetChunk]:
                return run_inference(
                    trained.model, task, lengths, batches, numbers, self.taps, dtype, self.logits, asked=asked
                )

            known = content(seen)
            described = {"of": trained.id} | ({"epoch": seen.epoch} if isinstance(seen, AugmentedRows) else {})
            return open_or_build(store, key(**known), known | described, lengths, batches.groups, build)

        self.store = stored(data)
        views = (
            [data.augmented_rows(epoch) for epoch in range(epochs or 0)]
            if isinstance(data, Data) and data.augmented
            else []
        )
        missing = [seen for seen in views if not (store / key(**content(seen))).exists()]
        if missing:
            check_space(self.store, missing[0].lengths, len(missing))
        self.stores = {None: self.store} | {seen.epoch: stored(seen) for seen in views}
        self.seconds = sum(one.seconds for one in self.stores.values())

    def read(self, task: Task, batch: Batch) -> Output:
        device, rows, length = batch.device, batch.row.cpu().numpy(), batch.length
        store = self.stores[batch.view]

        def stored(name: str) -> torch.Tensor:
            return tensor(store.gather(name, rows, length), store.dtype(name)).to(device)

        logits, top = self.logits.read(store, rows, length)
        return replace(
            task.frame(logits.to(device), batch.original),
            taps={name: stored(name) for name in self.taps},
            top=None if top is None else top.map(lambda part: part.to(device)),
        )

    def widths(self) -> Mapping[str, int]:
        return {name: self.store.arrays[name].shape[-1] for name in self.taps}
