"""The rows of a data set in the tokens of another tokenizer: what a teacher with words of its own reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kdlab.batch import Batch
from kdlab.datamodule.batch import Batches, Deck, within


@dataclass(frozen=True)
class View:
    """What a teacher needs to know of a data set; row ids are those of the data set.

    Attributes:
        tokenizer: whose tokens these are.
        labels: names, in the order of the logits.
        multi_label: whether a row may have several labels.
        fingerprint: a hash of texts, tokenizer and length.
        used: ids of the rows that are in a split, in order.
        deck: the rows.
        augmented: whether teachers should read the augmented rows that the student reads.
    """

    tokenizer: Any
    labels: list[str]
    multi_label: bool
    fingerprint: str
    used: np.ndarray
    deck: Deck
    augmented: bool = False

    @property
    def lengths(self) -> np.ndarray:
        """How many tokens each row has, by row id; 0 for the rows in no split."""
        lengths = np.zeros_like(self.deck.rows.lengths)
        lengths[self.used] = self.deck.rows.lengths[self.used]
        return lengths

    def every_row(self, tokens_per_batch: int = 16384) -> Batches:
        """All rows in use once, longest first; a batch has at most so many tokens, padding included."""
        return within(self.deck, self.used, tokens_per_batch)

    def again(self, batch: Batch) -> Batch:
        """The same rows, with the same labels and counts, in these tokens and on the same device."""
        inputs, tokens = self.deck.inputs(batch.row.cpu().numpy())
        moved = {name: value.to(batch.device) for name, value in inputs.items()}
        return replace(batch, inputs=moved, tokens=tokens.to(batch.device), clean=None)
