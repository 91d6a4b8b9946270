"""The batches of a data set: optimizer steps, loaders for training and evaluation, devices and curricula."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from lightning import LightningDataModule

from kdlab.datamodule.augment.base import Augment
from kdlab.datamodule.augmented import AugmentedRows
from kdlab.datamodule.batch import Batches, EncodedRows, EvalLoader, TrainLoader, within
from kdlab.datamodule.corpus import labelled
from kdlab.datamodule.curriculum.base import Curriculum
from kdlab.datamodule.sampler import BatchSampler, FixedSize, TokenBudget
from kdlab.error import UserError
from kdlab.value import Count, Seed


@dataclass(kw_only=True, eq=False, repr=False)
class Loading(LightningDataModule, ABC):
    """The part of a data set that makes batches of encoded rows. :class:`kdlab.datamodule.data.Data` adds the rows.

    Args:
        batch_size: rows of an optimizer step, over all devices and accumulated micro-batches.
        tokens_per_batch: tokens of an optimizer step, over all devices and accumulated micro-batches, padding included:
            many short texts, or few long ones. ``batch_size`` is not used then. None: ``batch_size`` rows.
        eval_batch_size: rows of a batch in validation and test.
        seed: of the order of batches.
        augment: changes a training row each time the student reads it; None: nothing does.
        curriculum: the order in which rows are learned from; None: all the same.

    Attributes:
        splits: row ids of ``train``, ``val`` and ``test``; a row's id is its position in the data.
        encoded: the rows with their targets; None before ``setup``.
    """

    batch_size: Count = 32
    tokens_per_batch: Count | None = None
    eval_batch_size: Count = 128
    seed: Seed = 0
    augment: Augment | None = None
    curriculum: Curriculum | None = None
    splits: dict[str, np.ndarray] = field(init=False)
    encoded: EncodedRows | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__init__()
        self.check_counts("batch_size", "tokens_per_batch", "eval_batch_size")

    def check_counts(self, *names: str) -> None:
        """Raise UserError where one of these arguments is a number below 1."""
        for name in names:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"datamodule.{name} is {value}, and must be 1 or more")

    @abstractmethod
    def setup(self, stage: str | None = None) -> None:
        """Set :attr:`splits` and :attr:`encoded`; the second call does nothing."""

    def encoded_rows(self) -> EncodedRows:
        """:attr:`encoded`, after ``setup`` where that is still to come."""
        if self.encoded is None:
            self.setup()
        assert self.encoded is not None
        return self.encoded

    @property
    def codes(self) -> np.ndarray:
        """The labels that the run uses, by row id: ``[N]`` class ids, or multi-label ``[N, C]``; -1: none."""
        return self.encoded_rows().codes

    @property
    def scored(self) -> bool:
        """Whether validation has labels to compare predictions with."""
        return bool(labelled(self.codes[self.splits["val"]]).any())

    @property
    def used(self) -> np.ndarray:
        """The ids of all rows that are in a split, in order."""
        marked = np.zeros(len(self.encoded_rows().rows), bool)
        for rows in self.splits.values():
            marked[rows] = True
        return np.flatnonzero(marked)

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each row of the data, by row id; 0 for the rows in no split."""
        every = self.encoded_rows().rows.lengths
        lengths = np.zeros_like(every)
        for rows in self.splits.values():
            lengths[rows] = every[rows]
        return lengths

    def train_dataloader(self) -> TrainLoader:
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        shuffle = not (self.trainer and self.trainer.overfit_batches)  # type: ignore[attr-defined]
        loader = TrainLoader(
            self.encoded_rows(), self.splits["train"], self.batch_size, self.seed, *self._rank(), accumulate, shuffle,
            self.augment, self._batch_sampler(), self._pins(),
        )  # fmt: skip
        if self.curriculum is not None:
            hard = self.curriculum.difficulty(self.encoded_rows().rows.lengths)[self.splits["train"]]
            epochs = self._epochs(loader.steps)
            loader.group(partial(self.curriculum.groups, hard, self.rows_per_step, self.seed, epochs), epochs)
        return loader

    def val_dataloader(self) -> EvalLoader:
        return self._evaluation(self.splits["val"])

    def test_dataloader(self) -> EvalLoader:
        return self._evaluation(self.splits["test"])

    def evaluate_rows(self, name: str) -> EvalLoader:
        """The labelled rows of any split in the batches of validation; all rows where none has a label."""
        rows = self.splits[name]
        known = labelled(self.codes[rows])
        return self._evaluation(rows[known] if known.any() else rows)

    def every_row(self, tokens_per_batch: int = 16384) -> Batches:
        """All rows of all splits once, longest first.

        Args:
            tokens_per_batch: most tokens of a batch, padding included.
        """
        return within(self.encoded_rows(), self.used, tokens_per_batch)

    @property
    def augmented(self) -> bool:
        """Whether teachers read the augmented rows that the student reads."""
        return self.augment is not None and self.augment.teacher == "augmented"

    def augmented_rows(self, epoch: int) -> AugmentedRows:
        """The training rows as the student, and its teacher, read them in an epoch.

        Raises:
            UserError: that cannot be known before.
        """
        assert self.augment is not None
        if not isinstance(getattr(self.augment, "seed", None), int):
            raise UserError(
                f"{type(self.augment).__name__} has no seed, so that what it makes of a row is not known before: give "
                "it a whole number `seed`, or use teacher=live or datamodule.augment.teacher=clean"
            )
        return AugmentedRows(self.encoded_rows(), np.sort(self.splits["train"]), self.augment, epoch)

    def grade(self, logits: np.ndarray) -> None:
        """Rank the rows by difficulty for the curriculum.

        Args:
            logits: a trained model's ``[M, C]`` of each row of :attr:`used`.
        """
        assert self.curriculum is not None
        self.curriculum.grade(logits, self.codes[self.used], self.used, len(self.encoded_rows().rows))

    def check_steps(self, devices: int, accumulate: int) -> None:
        """Raise UserError where a step has too few rows for these devices and micro-batches on each."""
        train = self.splits["train"]
        sampler = self._batch_sampler()
        count = sampler.count(self.encoded_rows().rows.costs[train], devices * accumulate)
        sampler.check(len(train), count, devices, accumulate)

    @property
    def rows_per_step(self) -> int:
        """Training rows of an optimizer step, in the mean."""
        if self.tokens_per_batch is None:
            return self.batch_size
        train = self.splits["train"]
        return max(1, len(train) // max(1, self._batch_sampler().count(self.encoded_rows().rows.costs[train], 1)))

    @property
    def tokens_per_step(self) -> int:
        """Tokens of the largest optimizer step, padding included."""
        return self.tokens_per_batch or self.batch_size * self._longest

    @property
    def _longest(self) -> int:
        return int(self.encoded_rows().rows.costs[self.splits["train"]].max(initial=0))

    def _batch_sampler(self) -> BatchSampler:
        if self.tokens_per_batch is None:
            return FixedSize(self.batch_size)
        return TokenBudget(self.tokens_per_batch, self._longest)

    def _evaluation(self, rows: np.ndarray) -> EvalLoader:
        return EvalLoader(self.encoded_rows(), rows, self.eval_batch_size, *self._rank(), self._pins())

    def _epochs(self, steps: int) -> float:
        """The number of epochs of the run.

        Args:
            steps: optimizer steps of an epoch.

        Returns:
            1 where neither epochs nor steps are limited.
        """
        if self.trainer is None:
            return 1.0
        most, last = self.trainer.max_epochs or -1, self.trainer.max_steps
        return min([float(most)] * (most > 0) + [last / steps] * (last > 0), default=1.0)

    def _rank(self) -> tuple[int, int]:
        """The number of this device, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _pins(self) -> bool:
        """Whether batches go to a GPU."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
