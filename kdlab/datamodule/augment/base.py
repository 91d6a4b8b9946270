"""The base of augmentations, which change the text of a training row each time a student reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import final

import numpy as np
import torch

from kdlab.batch import Batch
from kdlab.error import UserError


class Augment(ABC):
    """A seeded change of tokens: a function of seed, epoch and row, whatever the devices and micro-batches are.

    Positions stay the same, so that outputs of a token can still be compared. First and last token of a row,
    which most tokenizers add themselves, are never touched.

    Attributes:
        seed: of the draws.
        teacher: the training row that a teacher reads: ``clean``, the row as it is; or ``augmented``, what the
            student reads (consistent teaching: Beyer et al. 2022, arXiv:2106.05237, section 3.1).
    """

    seed: int
    teacher: str = "clean"

    @abstractmethod
    def change(self, ids: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """New ids ``[L]``, and which of them are seen ``[L]`` bool, of one row without its first and last token."""

    @final
    def __call__(self, batch: Batch, epoch: int) -> Batch:
        """The batch as the student reads it. What teachers read is its ``clean``; or they read the same, and its
        ``view`` is the epoch."""
        ids, mask = batch.inputs["input_ids"].numpy().copy(), batch.inputs["attention_mask"].numpy().copy()
        for position, row in enumerate(batch.row.tolist()):
            end = int(mask[position].sum()) - 1
            if end > 1:
                random = np.random.default_rng([self.seed, epoch, row])
                ids[position, 1:end], mask[position, 1:end] = self.change(ids[position, 1:end], random)
        seen = torch.from_numpy(mask)
        changed = replace(
            batch,
            inputs=batch.inputs | {"input_ids": torch.from_numpy(ids), "attention_mask": seen},
            tokens=seen.bool(),
        )
        return replace(changed, view=epoch) if self.teacher == "augmented" else replace(changed, clean=batch)


def share(value: float, name: str) -> float:
    """A share of the tokens, checked.

    Raises:
        UserError: not from 0 to below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise UserError(f"{name} is {value}, but must be a share of the tokens from 0 to below 1: 0.1 is common")
    return float(value)


def reads(teacher: str) -> str:
    """The rows that a teacher reads, ``clean`` or ``augmented``, checked.

    Raises:
        UserError: another word.
    """
    if teacher not in ("clean", "augmented"):
        raise UserError(
            f"datamodule.augment.teacher is '{teacher}', but must be clean (the text as it is) or augmented (what the "
            "student reads)"
        )
    return teacher
