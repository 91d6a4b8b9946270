"""A trained model that tags words: a tag for each word of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from kdlab.datamodule.batch import EncodedRows, within
from kdlab.datamodule.processor.tagged import WORD, WordRows, pieces
from kdlab.datamodule.rows import Rows
from kdlab.datamodule.target import Tags
from kdlab.store.inference import run_inference
from kdlab.task.base import Task

TOKENS = {"cpu": 4096, "cuda": 32768}  # of a batch, padding included: what fills a core, and what fills a GPU


@dataclass(frozen=True)
class Tagger:
    """Predicts the tags of texts, whose words are parted by spaces, as `kdlab evaluate` does.

    Attributes:
        model, task, tokenizer: those of the run; the task has the tags.
        labels: the tags, in the order of the logits.
        max_length: tokens; the words of a text beyond them have no tag.
    """

    model: nn.Module
    task: Task
    tokenizer: Any
    labels: list[str]
    max_length: int

    def tags(
        self, texts: Sequence[str], report_rows: Callable[[int], None] = lambda rows: None
    ) -> list[list[str] | None]:
        """A tag for each word of each text, "" for words that are cut off; None where a text has no word.

        Args:
            report_rows: is called with the number of rows after each batch.
        """
        words = [text.split() for text in texts]
        full = [row for row, some in enumerate(words) if some]
        made = list(pieces(self.tokenizer, [WORD.join(words[row]) for row in full], self.max_length))
        rows, starts = (_rows([one[part] for one in made], self.tokenizer.pad_token_id or 0) for part in (0, 1))
        encoded = EncodedRows(WordRows(rows, starts), Tags.of(self.labels, [None] * len(full)))
        count = TOKENS["cuda" if torch.cuda.is_available() else "cpu"]
        batches = within(encoded, np.arange(len(full)), count)
        found: list[list[str] | None] = [None] * len(texts)
        with torch.inference_mode():
            for part in run_inference(
                self.model, self.task, rows.lengths, batches, iter(range(len(batches))), (), "float32", name=None
            ):
                logits, place = torch.from_numpy(part.values["logits"][1]), 0
                for row in part.rows.tolist():
                    of_row, place = logits[place : place + rows.lengths[row]], place + rows.lengths[row]
                    codes = of_row[torch.from_numpy(np.array(starts.row(row)))].argmax(-1).tolist()
                    rest = len(words[full[row]]) - len(codes)
                    found[full[row]] = [self.labels[code] for code in codes] + [""] * rest
                report_rows(len(part.rows))
        return found

    def predict(self, texts: Sequence[str]) -> list[list[str] | None]:
        """As :meth:`tags`."""
        return self.tags(texts)


def _rows(parts: Sequence[Sequence[int]], pad: int) -> Rows:
    flat = np.concatenate([*(np.asarray(part, np.int32) for part in parts), np.zeros(0, np.int32)])
    return Rows(flat, np.cumsum([0, *map(len, parts)]).astype(np.int64), pad)
