"""The training rows as a student reads them in an epoch, for a teacher that reads the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kdlab.batch import Batch
from kdlab.datamodule.augment.base import Augment
from kdlab.datamodule.batch import Batches, EncodedRows, within
from kdlab.error import UserError


@dataclass(frozen=True)
class AugmentedRows:
    """The training rows of one epoch after augmentation; row ids are those of the data set.

    Attributes:
        encoded: all rows.
        used: ids of the rows that train, in order.
        augment: changes them.
        epoch: number of the epoch.
    """

    encoded: EncodedRows
    used: np.ndarray
    augment: Augment
    epoch: int

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each row, by row id; 0 for the rows that do not train."""
        lengths = np.zeros_like(self.encoded.rows.lengths)
        lengths[self.used] = self.encoded.rows.lengths[self.used]
        return lengths

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the augmented inputs of every row.

        Raises:
            UserError: they are different each time.
        """
        known = hashlib.sha256()
        for number, batch in enumerate(self.every_row()):
            text = _digest(batch)
            if number == 0 and _digest(self.every_row()[0]) != text:
                raise UserError(
                    f"{type(self.augment).__name__} changes a row of an epoch differently each time, so that no view "
                    "of it can be stored: draw from the generator that `change` is given, or use teacher=live"
                )
            known.update(text)
        return known.hexdigest()[:32]

    def every_row(self, tokens_per_batch: int = 16384) -> Batches:
        """All of them once, longest first; a batch has at most ``tokens_per_batch`` tokens, padding included."""
        clean = within(self.encoded, self.used, tokens_per_batch)
        return Batches(clean.groups, lambda rows: self.augment(clean.make(rows), self.epoch))


def _digest(batch: Batch) -> bytes:
    tensors = [batch.row, *(batch.inputs[name] for name in sorted(batch.inputs))]
    return hashlib.sha256(b"".join(one.numpy().tobytes() for one in tensors)).digest()
