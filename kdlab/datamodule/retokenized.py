"""The rows of a data set as another processor encodes them, for a teacher with another tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kdlab.batch import Batch
from kdlab.datamodule.batch import Batches, EncodedRows, within
from kdlab.datamodule.processor.base import Processor


@dataclass(frozen=True)
class RetokenizedRows:
    """Rows encoded by another processor; row ids are those of the data set.

    Attributes:
        processor: encodes them.
        labels: names, in the order of the logits.
        fingerprint: a hash of all values and of the processor.
        used: ids of the rows that are in a split, in order.
        encoded: the rows.
        augmented: whether teachers should read the augmented rows that the student reads.
    """

    processor: Processor
    labels: list[str]
    fingerprint: str
    used: np.ndarray
    encoded: EncodedRows
    augmented: bool = False

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each row, by row id; 0 for the rows in no split."""
        lengths = np.zeros_like(self.encoded.rows.lengths)
        lengths[self.used] = self.encoded.rows.lengths[self.used]
        return lengths

    def every_row(self, tokens_per_batch: int = 16384) -> Batches:
        """All rows in use once, longest first; a batch has at most ``tokens_per_batch`` tokens, padding included."""
        return within(self.encoded, self.used, tokens_per_batch)

    def again(self, batch: Batch) -> Batch:
        """The same rows, with the same labels and sizes, as this processor encodes them, on the same device."""
        index = batch.row.cpu().numpy()
        inputs, real = self.encoded.rows.collate(index)
        answers = self.encoded.rows.answers(index, 0 if real is None else real.shape[1])
        found = replace(batch, inputs=inputs, tokens=real, target=batch.target | answers, clean=None)
        return found.to(batch.device)
