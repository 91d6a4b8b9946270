"""Batches of rows in their order, on each device. No workers: the tokens are memory-mapped.

An optimizer step's rows are chosen first, and then dealt out to devices and accumulated micro-batches: neither the
number of devices nor the accumulation changes what a step learns from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch

from kdlab.batch import Batch
from kdlab.datamodule.processor.base import Encoded
from kdlab.datamodule.sampler import BatchSampler, FixedSize
from kdlab.datamodule.target import Target
from kdlab.error import UserError


@dataclass(frozen=True)
class EncodedRows:
    """Rows with their targets, from which loaders make batches.

    Attributes:
        rows: the inputs of models.
        target: the answers.
    """

    rows: Encoded
    target: Target

    @property
    def codes(self) -> np.ndarray:
        """``[N]`` int64 or ``[N, C]`` float32; -1 = unlabelled."""
        return self.target.codes

    def size(self, index: np.ndarray) -> dict[str, float]:
        """The divisors of means over the rows ``index``: the rows, the answers that are known, the positions of the
        token axis, the tokens that a language model predicts, and those that begin a word."""
        lengths = self.rows.lengths[index]
        return {
            "rows": float(len(index)),
            "labelled": float(self.target.answers(index)),
            "positions": float(lengths.sum()),
            "tokens": float(self.rows.predictions[index].sum()),
            "words": float(self.rows.words[index].sum()),
        }

    def batch(self, index: np.ndarray, size: Mapping[str, float] | None = None) -> Batch:
        """The rows ``index``.

        Args:
            size: the divisors of means; None: those of these rows.
        """
        inputs, real = self.rows.collate(index)
        length = 0 if real is None else real.shape[1]
        target = self.target.batch(index, length) | self.rows.answers(index, length)
        return Batch(torch.from_numpy(index), inputs, target, self.size(index) if size is None else size, real)


@dataclass(frozen=True)
class Batches(Sequence[Any]):
    """Batches that are made when they are asked for.

    Attributes:
        groups: the row ids of each.
        make: a batch of row ids.
    """

    groups: list[np.ndarray]
    make: Callable[[np.ndarray], Batch]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: Any) -> Any:
        return self.make(self.groups[number])


class TrainLoader:
    """The training batches of one device. Lightning saves and restores its place, also in the middle of an epoch.

    Args:
        encoded: the rows.
        index: ``[M]`` row ids that train.
        batch_size: rows of an optimizer step, over all devices and accumulated micro-batches.
        seed: of the order.
        rank, world: this device and how many there are.
        accumulate: micro-batches of a step on each device.
        shuffle: False repeats the order of epoch 0.
        augment: changes a batch, given the epoch; None: nothing does.
        batch_sampler: groups rows into steps; None: ``batch_size`` rows each.
        pin: whether batches are in pinned memory, from which a GPU copies while it computes.

    Raises:
        UserError: a step cannot be dealt out, because it has fewer rows than there are devices times micro-batches.
    """

    def __init__(
        self,
        encoded: EncodedRows,
        index: np.ndarray,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        shuffle: bool = True,
        augment: Callable[[Batch, int], Batch] | None = None,
        batch_sampler: BatchSampler | None = None,
        pin: bool = False,
    ) -> None:
        self.augment = augment or (lambda batch, epoch: batch)
        self.parts = world * accumulate
        self.batch_sampler = batch_sampler or FixedSize(batch_size)
        self.encoded, self.index, self.seed, self.pin = encoded, index, seed, pin
        self.rank, self.world, self.accumulate, self.shuffle = rank, world, accumulate, shuffle
        self.costs = encoded.rows.costs[index]
        self.group(lambda epoch: [np.arange(len(index))], 1.0)
        self.epoch = self.position = self.start = 0

    def group(self, groups: Callable[[int], list[np.ndarray]], epochs: float) -> None:
        """Order the positions by the groups ``groups(epoch)``, one group after the other.

        All epochs have as many steps as the one that needs most.

        Args:
            epochs: of the run.
        """
        self.groups = groups
        seen = range(1 if self.batch_sampler.steady else max(1, ceil(epochs)))
        self.steps = max(
            sum(self.batch_sampler.count(self.costs[group], self.parts) for group in groups(epoch)) for epoch in seen
        )
        self.batch_sampler.check(len(self.index), self.steps, self.world, self.accumulate)

    def __len__(self) -> int:
        """Micro-batches of an epoch on this device."""
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[Batch]:
        # a generator: it looks at the epoch when the first batch is asked for, which is after Lightning's set_epoch
        self.position, self.start = self.start, 0
        plan = self.plan(self.epoch if self.shuffle else 0)
        while self.position < len(self):
            step, micro = divmod(self.position, self.accumulate)
            rows = plan[step]
            part = np.array_split(rows, self.parts)[micro * self.world + self.rank]
            self.position += 1
            size = {name: count / self.parts for name, count in self.encoded.size(rows).items()}
            batch = self.augment(self.encoded.batch(part, size), self.epoch)
            yield batch.pin_memory() if self.pin else batch

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The row ids of each optimizer step of an epoch."""
        sampler = self.batch_sampler
        steps = [
            group[step]
            for number, group in enumerate(self.groups(epoch))
            for step in sampler.steps(self.costs[group], self.parts, self.seed, epoch, *[number] * (number > 0))
        ]
        return [self.index[step] for step in sampler.spread(steps, self.steps, self.parts)]

    def padding(self, epoch: int = 0) -> float:
        """The share of padding in the tokens of an epoch's batches, over all devices."""
        costs = self.encoded.rows.costs
        parts = [costs[part] for rows in self.plan(epoch) for part in np.array_split(rows, self.parts)]
        return 1 - sum(int(part.sum()) for part in parts) / sum(len(part) * int(part.max()) for part in parts)

    @property
    def sampler(self) -> TrainLoader:
        """Lightning calls ``sampler.set_epoch`` at the start of each epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.position, self.start = epoch, 0, 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "place": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["place"]
        self.start = 0 if self.position >= len(self) else self.position


class EvalLoader:
    """Every row once over all devices, longest first; batches differ by one row at most, each device has as many."""

    def __init__(
        self, encoded: EncodedRows, index: np.ndarray, batch_size: int, rank: int = 0, world: int = 1, pin: bool = False
    ) -> None:
        if len(index) < world:
            raise UserError(f"{len(index)} rows cannot be evaluated on {world} devices: use fewer, or more rows")
        self.encoded, self.pin = encoded, pin
        order = index[np.argsort(-encoded.rows.costs[index], kind="stable")]
        rounds = max(1, min(-(-len(index) // (batch_size * world)), len(index) // world))
        self.parts = np.array_split(order, rounds * world)[rank::world]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Batch]:
        batches = map(self.encoded.batch, self.parts)
        return map(Batch.pin_memory, batches) if self.pin else batches


def within(encoded: EncodedRows, rows: np.ndarray, tokens: int) -> Batches:
    """The rows, longest first, in batches of at most ``tokens`` tokens, padding included (but one row at least)."""
    costs = encoded.rows.costs[rows]
    order = np.argsort(-costs, kind="stable")
    groups, start = [], 0
    while start < len(order):
        size = max(1, tokens // max(1, int(costs[order[start]])))
        groups.append(rows[order[start : start + size]])
        start += size
    return Batches(groups, encoded.batch)
