"""The outputs of a frozen model for every row of a data set, computed at full speed for :mod:`kdlab.store.store`."""

from __future__ import annotations

import copy
import hashlib
import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.model.family.find import family
from kdlab.precision import computing, current, may_use_gpus
from kdlab.store.array import TYPES, plain
from kdlab.store.build import TargetChunk
from kdlab.store.logits import AllLogits, LogitFormat
from kdlab.store.store import ASKED
from kdlab.task.base import Task
from kdlab.terminal import Bar

ALL = AllLogits()


def run_inference(
    model: nn.Module, task: Task, lengths: np.ndarray, batches: Sequence[Batch], numbers: Iterator[int],
    taps: Collection[str], dtype: str, logits: LogitFormat = ALL, name: str | None = "teacher pass",
    asked: bool = False,
) -> Iterator[TargetChunk]:  # fmt: skip
    """The outputs of ``model`` for some batches: its logits or the largest of them, and its taps.

    Where not all logits are kept, those of some positions are in memory at a time, if the model allows it.

    Every GPU reads with a copy of the model; without one every core reads by itself, which is faster than all of them
    on one batch. It is computed in the precision of the caller.

    Args:
        lengths: ``[N]``, how many real tokens each row of the data has.
        batches: all of them.
        numbers: those that are read, rising; a few are drawn ahead.
        dtype: of the taps.
        logits: the part of the logits that is kept.
        name: for the progress bar; None: no bar.
        asked: of the logits, keep only those of positions that count, and which these are; not for rows.
    """
    available = devices()
    precision, threads = current(), torch.get_num_threads()
    task = task if logits.all_at_once else task.in_parts(model)
    readers: SimpleQueue[tuple[nn.Module, str]] = SimpleQueue()
    for device in available:
        readers.put((replica(model.eval(), device), device))

    def read(batch: Batch) -> TargetChunk:
        torch.set_num_threads(1)
        reader, device = readers.get()
        try:
            moved = batch.to(device)
            with torch.inference_mode(), computing(precision):
                output = task.read(reader, moved, taps)
                # by length: augmentation hides tokens in the middle of a row, where taps have values as well
                real = torch.arange(moved.length) < torch.from_numpy(lengths[batch.row.numpy()])[:, None]
                real = real.to(device)
                values = {name: tap.to(TYPES[dtype]) for name, tap in output.taps.items()}
                made = logits.tensors(output, task.chunk)
                kept = {ASKED: ("token", plain(output.mask[real]))} if asked else {}
                kept |= {name: (ASKED, plain(value[output.mask & real])) for name, value in made.items() if asked}
                values |= {} if asked else made
                kept |= {name: storage_rows(value, real, axes_of(reader, task, name)) for name, value in values.items()}
                return TargetChunk(batch.row.numpy(), *logits.packed(output, kept))
        finally:
            readers.put((reader, device))

    bar = Bar(name, len(batches))
    try:
        with ThreadPoolExecutor(len(available)) as pool:

            def begun(count: int) -> Iterator[tuple[int, Future[TargetChunk]]]:
                return ((number, pool.submit(read, batches[number])) for number in islice(numbers, count))

            coming = deque(begun(2 * len(available)))
            while coming:
                number, part = coming.popleft()
                finished = part.result()
                coming.extend(begun(1))
                bar.update(number + 1)  # what was left out is done, or another process is doing it
                yield finished
    finally:
        bar.close()
        torch.set_num_threads(threads)


def replica(model: nn.Module, device: str) -> nn.Module:
    """A copy of the module tree for one reader, which may hang hooks on it; on the CPU all share the weights."""
    tensors = [*model.parameters(), *model.buffers()]
    shared = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors} if device == "cpu" else {})
    return shared.to(device)


def axes_of(model: nn.Module, task: Task, name: str) -> tuple[str, ...] | None:
    """The axes of a stored array; None: they are not declared, and its shape has to show whether it has tokens."""
    if name in ("logits", "index", "tail"):
        return ("row", "class") if task.unit == "row" else ("row", "token", "class")
    return family(model).axes(model, name)


def storage_rows(tap: Tensor, real: Tensor, axes: tuple[str, ...] | None = None) -> tuple[str, np.ndarray]:
    """A tap as a store keeps it: its kind, and a line a row, a real token, or a pair of real tokens.

    Args:
        tap: ``[B, ...]``, ``[B, L, ...]`` or attention maps ``[B, H, L, L]``.
        real: ``[B, L]`` bool.
        axes: the names of the tap's axes; None: they follow from its shape, which is right but for arrays that have
            the batch's length on another axis by chance.

    Raises:
        UserError: it has an axis of positions besides the tokens.
    """
    length = real.shape[1]
    if axes is not None and "source" in axes:
        raise UserError(
            "a loss term reads a tap of the teacher's encoder, whose positions are those of the source; a store has "
            "those of the target: use teacher=live, or a tap of the decoder such as hidden.-1"
        )
    if axes is None:
        pairs = tap.ndim == 4 and tap.shape[2:] == (length, length)
        tokens = 2 if pairs else int(tap.ndim >= 3 and tap.shape[:2] == real.shape)
    else:
        tokens = axes.count("token") if tap.shape[1:2] == (length,) or axes.count("token") > 1 else 0
    if tokens == 2:
        return "pair", plain(tap.movedim(1, -1)[real[:, :, None] & real[:, None, :]])
    return ("token", plain(tap[real])) if tokens else ("row", plain(tap))


def rows_digest(data: Data) -> str:
    """A hash of which rows of the data are in use."""
    return hashlib.sha256(data.used.astype(np.int64).tobytes()).hexdigest()[:16]


def devices() -> list[str]:
    """The devices of this process: each GPU or core, or its own where it is one of several that train together; on
    no GPU where the trainer is on the CPU."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if may_use_gpus() else []
    if (rank := os.environ.get("LOCAL_RANK")) is None:
        return gpus or ["cpu"] * cores()
    if gpus:
        return [gpus[int(rank) % len(gpus)]]
    return ["cpu"] * max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))
