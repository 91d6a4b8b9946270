"""What a run takes: a few steps on real batches, measured, and scaled up to the whole."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.model.family.find import family
from kdlab.module.base import TrainingRule
from kdlab.store.store import ASKED, row_offsets

MOST = 4  # steps that are measured, of which the first, which warms up, does not count


@dataclass(frozen=True)
class Cost:
    """Measured on this machine's CPU.

    Attributes:
        step: seconds that one thread computes for an optimizer step.
        token: likewise, for the model to read a token of a batch in evaluation.
        memory: bytes that training holds at the longest batch, by what for; activations are scaled by tokens.
    """

    step: float
    token: float
    memory: dict[str, int]

    @property
    def bytes(self) -> int:
        return sum(self.memory.values())


def measure(
    learner: TrainingRule, data: Data, fit: Callable[..., Trainer], teacher: int, steps: int, longest: int
) -> Cost:
    """Train a few steps on whole batches.

    Args:
        data: enough for a few steps.
        fit: makes the trainer of the config, given arguments that replace its own.
        teacher: bytes of a teacher that is asked during training.
        steps: how many steps the run has.
        longest: tokens of the largest optimizer step of the whole data.
    """
    meter, count = _Meter(), min(MOST, steps)
    with one_thread():
        trainer = fit(callbacks=[meter], max_steps=count, max_epochs=-1)
        trainer.fit(learner, datamodule=data)
    learning = [one for one in learner.parameters() if one.requires_grad]
    state = [value for optimizer in trainer.optimizers for one in optimizer.state.values() for value in one.values()]
    memory = {
        "weights": _bytes(learner.parameters()) + _bytes(learner.buffers()),
        "gradients": _bytes(learning),
        "optimizer": _bytes(value for value in state if isinstance(value, torch.Tensor)),
        "activations": int(meter.saved * longest / meter.parts / max(1, meter.tokens)),
        "teacher": teacher,
    }
    first = next(iter(data.train_dataloader()))
    token = reading(learner.model, first)
    warm = meter.seconds[1:] or meter.seconds
    return Cost(float(np.mean(warm)), token, {name: count for name, count in memory.items() if count})


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: what it takes is then no matter of what else the machine does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def reading(model: nn.Module, batch: Batch) -> float:
    """Seconds that one thread computes for a model to read a position of a batch, or a row where rows have no
    positions; the second reading counts."""
    training = model.training
    with one_thread(), torch.inference_mode():
        model.eval()
        for _ in range(2):
            start = time.process_time()
            model(**family(model).adapted(model, batch.inputs))
            seconds = time.process_time() - start
    model.train(training)
    return seconds / (len(batch) * max(1, batch.length))


def generating(learner: TrainingRule, validations: float) -> float:
    """Seconds that one thread computes for what the model generates in all validations and the test, after a fit."""
    with one_thread():
        val, test = (learner.evaluators[split].seconds(learner.model, split) for split in ("val", "test"))
    return validations * val + test


def wall(seconds: float, threads: int) -> float:
    """Seconds on an idle machine of what takes one thread so long, when a tenth of it is done by one thread alone.

    Source: Amdahl 1967, Validity of the single processor approach, AFIPS 30.

    Example:
        >>> wall(10.0, 1), wall(10.0, 9)
        (10.0, 2.0)
    """
    return seconds * (0.1 + 0.9 / max(1, threads))


def unmeasured(
    step: float, own: float, other: float, own_tokens: float, other_tokens: float, parameters: float
) -> float:
    """Seconds of an optimizer step of another model than the measured one, from how long both take to read.

    A backward pass takes twice as long as a forward pass; what a step takes beyond both is the optimizer's, which
    looks at each parameter.

    Args:
        step: of the measured model.
        own, other: seconds that the measured and the other model take to read a token.
        own_tokens, other_tokens: of a step of each.
        parameters: of the other model, as a share of those of the measured one.

    Example:
        >>> unmeasured(step=4.0, own=0.01, other=0.02, own_tokens=100, other_tokens=100, parameters=2.0)
        8.0
    """
    return 3 * other * other_tokens + max(0.0, step - 3 * own * own_tokens) * parameters


def tokens_per_step(data: Data) -> float:
    """Tokens of an optimizer step, padding included, in the mean."""
    lengths, plan = data.lengths, data.train_dataloader().plan(0)
    return float(np.mean([len(rows) * int(lengths[rows].max()) for rows in plan[:200]]))


def planned(batches: int, trainer: Mapping[str, Any]) -> int:
    """How many optimizer steps a run has.

    Args:
        batches: micro-batches of an epoch.
        trainer: the trainer's settings.
    """
    limit = trainer.get("limit_train_batches", 1.0)
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    epochs, most = trainer.get("max_epochs"), trainer.get("max_steps", -1)
    by_epochs = math.inf if epochs in (None, -1) else epochs * math.ceil(batches / trainer["accumulate_grad_batches"])
    return int(min(by_epochs, math.inf if most in (None, -1) else most))


def validations(batches: int, trainer: Mapping[str, Any], steps: int) -> float:
    """The number of validations of a run, from its optimizer steps.

    Args:
        batches, trainer: as for :func:`planned`.
    """
    every, interval = trainer.get("check_val_every_n_epoch", 1), trainer.get("val_check_interval") or 1.0
    micro = steps * trainer["accumulate_grad_batches"]
    if every is None:
        return micro / interval
    return micro / batches / every * (batches / interval if isinstance(interval, int) else 1 / interval)


def stored(folder: Path, lengths: np.ndarray, train: np.ndarray, epochs: int) -> int:
    """Bytes that the teacher's answers to all rows take, from stores of some of them.

    Args:
        folder: of stores; every array in it is scaled. Stores of what an epoch shows are as many as there are epochs.
        lengths: ``[N]``, tokens of each row of the whole data.
        train: ids of the rows that train.
    """
    total = 0
    for path in folder.glob("*/meta.json"):
        meta = json.loads(path.read_text())
        if meta.get("epoch", 0) > 0:
            continue
        seen = np.where(np.isin(np.arange(len(lengths)), train), lengths, 0) if "epoch" in meta else lengths
        lines = {kind: int(offsets[-1]) for kind, offsets in row_offsets(seen).items()}
        if (path.parent / f"{ASKED}.npy").exists():
            mask = np.load(path.parent / f"{ASKED}.npy", allow_pickle=False)
            lines[ASKED] = round(lines["token"] * float(mask.mean()))
        for name, known in meta["arrays"].items():
            array = np.load(path.parent / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            size = array.dtype.itemsize * math.prod(array.shape[1:]) * lines[known["kind"]]
            total += size * (epochs if "epoch" in meta else 1)
    return total


class _Meter(Callback):
    """Times the steps, and counts the bytes that the first forward pass keeps for the backward pass."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.saved = self.tokens = 0
        self.parts = 1
        self.begun = 0.0
        self.hooks: Any = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.parts = trainer.accumulate_grad_batches
        if batch_idx % self.parts == 0:
            self.begun = time.process_time()
        if not self.tokens:
            self.tokens = len(batch) * max(1, batch.length)
            seen = {one.untyped_storage().data_ptr() for one in pl_module.parameters()}

            def keep(value: torch.Tensor) -> torch.Tensor:
                storage = value.untyped_storage()
                if storage.data_ptr() not in seen:
                    seen.add(storage.data_ptr())
                    self.saved += storage.nbytes()
                return value

            self.hooks = saved_tensors_hooks(keep, lambda value: value)
            self.hooks.__enter__()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.on_before_backward(trainer, pl_module, None)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        if self.hooks is not None:
            self.hooks.__exit__()
            self.hooks = None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % self.parts == 0:
            self.seconds.append(time.process_time() - self.begun)


def _bytes(tensors: Any) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)
