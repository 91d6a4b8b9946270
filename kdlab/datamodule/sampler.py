"""Samplers of optimizer steps: a fixed number of rows each, or as many as a budget of tokens holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np

from kdlab.error import UserError

POOL = 50  # batches that are sorted by length together: large enough to pad little, small enough to stay random
RATIO = 1.1  # of the longest rows of two neighbouring buckets: a step pads a row by a tenth at most, on average by half


class BatchSampler(ABC):
    """Groups training rows into optimizer steps.

    Attributes:
        steady: whether the number of steps depends on the number of rows alone.
    """

    steady: bool

    @abstractmethod
    def steps(self, lengths: np.ndarray, least: int, *seed: int) -> list[np.ndarray]:
        """Positions ``0..N-1`` grouped into steps: each position once; a function of the arguments alone.

        Args:
            lengths: ``[N]``, the tokens of each.
            least: least rows of a step, so that each device and micro-batch has one.
        """

    @abstractmethod
    def count(self, lengths: np.ndarray, least: int) -> int:
        """The number of steps of these rows, whatever the seed."""

    @abstractmethod
    def check(self, rows: int, count: int, world: int, accumulate: int) -> None:
        """Refuse what cannot be dealt out to ``world`` devices and ``accumulate`` micro-batches on each.

        Args:
            rows, count: number of training rows, and of steps.

        Raises:
            UserError: a step has fewer rows than there are devices times micro-batches.
        """

    def spread(self, steps: list[np.ndarray], count: int, least: int) -> list[np.ndarray]:
        """The same rows in ``count`` steps, where they are fewer, of ``least`` rows each, where one has fewer."""
        return steps


@final
class FixedSize(BatchSampler):
    """Steps of ``size`` rows; one has the rest, or ``size`` and the rest where the rest is too small."""

    steady = True

    def __init__(self, size: int) -> None:
        self.size = size

    def steps(self, lengths: np.ndarray, least: int, *seed: int) -> list[np.ndarray]:
        """Positions are shuffled, sorted by length within pools of ``POOL`` steps, cut, and the steps shuffled."""
        random, size = np.random.default_rng(seed), self.size
        order = random.permutation(len(lengths))
        for start in range(0, len(order), POOL * size):
            pool = order[start : start + POOL * size]
            order[start : start + POOL * size] = pool[np.argsort(lengths[pool], kind="stable")]
        cuts = [at for at in range(size, len(order), size) if len(order) - at >= least]
        groups = np.split(order, cuts)
        return [groups[each] for each in random.permutation(len(groups))]

    def count(self, lengths: np.ndarray, least: int) -> int:
        whole, rest = divmod(len(lengths), self.size)
        return whole + (rest >= least or not whole)

    def check(self, rows: int, count: int, world: int, accumulate: int) -> None:
        if min(self.size, rows) < world * accumulate:
            raise UserError(
                f"an optimizer step of {min(self.size, rows)} rows (datamodule.batch_size={self.size}, {rows} training "
                f"rows) cannot be dealt out to {world} devices times trainer.accumulate_grad_batches={accumulate}: "
                "lower the latter or raise datamodule.batch_size"
            )


@final
class TokenBudget(BatchSampler):
    """Steps of at most ``tokens`` tokens, padding included: many short rows, or few long ones.

    Rows are sorted into buckets of nearly equal lengths. Each bucket is shuffled and cut into steps of as many rows as
    the budget holds of its longest; what is left over joins the next bucket, so that the number of steps follows from
    the lengths and not from the order.

    Args:
        tokens: rows of a step times the longest of them; at least what one row of each device and micro-batch needs.
        longest: tokens of the longest row that there is.

    Source: buckets: Vaswani et al. 2017, arXiv:1706.03762, section 5.1; a budget of tokens with padding: Ott et al.
        2019 (fairseq), arXiv:1904.01038, section 2 (``--max-tokens``).
    """

    steady = False

    def __init__(self, tokens: int, longest: int) -> None:
        self.tokens, self.longest = tokens, longest
        caps = [max(1, longest)]
        while caps[-1] > 1:
            caps.append(min(caps[-1] - 1, int(caps[-1] / RATIO)))
        self.caps = np.array(caps[::-1])
        self.sizes = np.maximum(1, tokens // self.caps)  # rows of a full step of each bucket

    def steps(self, lengths: np.ndarray, least: int, *seed: int) -> list[np.ndarray]:
        random = np.random.default_rng(seed)
        order = random.permutation(len(lengths))
        bucket = np.searchsorted(self.caps, lengths[order])
        order = order[np.argsort(bucket, kind="stable")]
        ends = np.cumsum(np.bincount(bucket, minlength=len(self.caps)))
        groups: list[np.ndarray] = []
        start = 0  # what is left over lies before its new bucket
        for size, end in zip(self.sizes, ends, strict=True):
            full = (end - start) // size
            groups += [order[at : at + size] for at in range(start, start + full * size, size)]
            start += full * size
        if start < len(order):
            groups.append(order[start:])
        groups = [group[np.argsort(lengths[group], kind="stable")] for group in self.spread(groups, len(groups), least)]
        return [groups[each] for each in random.permutation(len(groups))]

    def count(self, lengths: np.ndarray, least: int) -> int:
        steps = left = 0
        counts = np.bincount(np.searchsorted(self.caps, lengths), minlength=len(self.caps))
        for size, rows in zip(self.sizes.tolist(), counts.tolist(), strict=True):
            full, left = divmod(left + rows, size)
            steps += full
        return steps + (left > 0)

    def check(self, rows: int, count: int, world: int, accumulate: int) -> None:
        parts = world * accumulate
        where = f"{world} devices times trainer.accumulate_grad_batches={accumulate}"
        if self.tokens < self.longest * parts:
            raise UserError(
                f"datamodule.tokens_per_batch={self.tokens} cannot hold a text of {self.longest} tokens (the longest "
                f"that trains) for each of {where}: raise it to {self.longest * parts} or more, or lower "
                "datamodule.max_length or the accumulation"
            )
        if rows < count * parts:
            raise UserError(
                f"datamodule.tokens_per_batch={self.tokens} makes {count} optimizer steps of {rows} training rows, too "
                f"few to deal out to {where}: raise it, or lower the accumulation"
            )

    def spread(self, steps: list[np.ndarray], count: int, least: int) -> list[np.ndarray]:
        """Steps that are short or new come last, and take rows, one at a time, of the steps that have the most.

        They have ``least`` rows then, and half as many as the budget holds of the longest row where others have more:
        so they are within the budget, whatever their rows are.
        """
        full = [step.tolist() for step in steps if len(step) >= least]
        short = [step.tolist() for step in steps if len(step) < least] + [[] for _ in range(count - len(steps))]
        if not short:
            return steps
        enough = max(least, self.tokens // self.longest // 2)
        for step_rows in short:
            sizes = [len(step) for step in full]
            while len(step_rows) < enough and max(sizes, default=0) > max(len(step_rows) + 1, least):
                most = sizes.index(max(sizes))
                new = next((row for row in reversed(full[most]) if row not in step_rows), None)
                sizes[most] = 0 if new is None else sizes[most] - 1  # a curriculum may bring a row twice an epoch
                if new is not None:
                    full[most].remove(new)
                    step_rows.append(new)
            full.append(step_rows)
        return [np.array(step, np.int64) for step in full]
