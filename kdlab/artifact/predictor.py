"""A trained classifier that reads texts or images: its inputs, logits, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.datamodule.batch import EncodedRows, within
from kdlab.datamodule.corpus import PAIR
from kdlab.datamodule.processor.base import Encoded
from kdlab.datamodule.processor.image import Drawn, Image
from kdlab.datamodule.rows import Rows
from kdlab.datamodule.target import Labels
from kdlab.datamodule.tokenizer import encode, separator
from kdlab.outcome import Bernoulli, Real
from kdlab.store.inference import run_inference
from kdlab.task.base import Task

TOKENS = {"cpu": 4096, "cuda": 32768}  # of a batch, padding included: what fills a core, and what fills a GPU


Answer = str | list[str] | float


@dataclass(frozen=True)
class Prediction:
    """The prediction of a model for one text.

    Attributes:
        label: the most probable label; of a multi-label model the list of those with a probability above 1/2; of a
            model of numbers the number; None where there is no text.
        probabilities: of every label, in [0, 1]; empty where there is no text, and of a model of numbers.
    """

    label: Answer | None
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Predictor:
    """Predicts the labels of texts as `kdlab evaluate` does: the same tokens, the same task.

    Attributes:
        model, task, tokenizer: those of the run; the task has the labels.
        labels: names, in the order of the logits.
        max_length: tokens; longer texts are cut.
        images: reads images, whose paths are given in the place of texts; None: the model reads texts.
        base: the folder that paths are relative to.
        scale: what logits are divided by, a temperature that was fitted on other rows.
    """

    model: nn.Module
    task: Task
    tokenizer: Any
    labels: list[str]
    max_length: int
    images: Image | None = None
    base: Path = Path()
    scale: float = 1.0

    @property
    def several(self) -> bool:
        """Whether a text has any number of labels."""
        return isinstance(self.task.outcome, Bernoulli)

    @property
    def numbers(self) -> bool:
        """Whether a text has a real number."""
        return isinstance(self.task.outcome, Real)

    def logits(
        self, texts: Sequence[str], report_rows: Callable[[int], None] = lambda rows: None
    ) -> tuple[Tensor, np.ndarray]:
        """Logits ``[N, C]`` in float32, and ``[N]`` bool: which texts have a token; the logits of the others are NaN.

        Args:
            report_rows: is called with the number of rows after each batch.
        """
        rows, lengths = self._pixels(texts) if self.images is not None else self._tokens(texts)
        encoded = EncodedRows(rows, Labels((), np.full(len(texts), -1)))
        batches = within(encoded, np.flatnonzero(lengths), TOKENS["cuda" if torch.cuda.is_available() else "cpu"])
        found = torch.full((len(texts), len(self.labels)), torch.nan)
        with torch.inference_mode():
            for part in run_inference(
                self.model, self.task, lengths, batches, iter(range(len(batches))), (), "float32", name=None
            ):
                found[torch.from_numpy(part.rows)] = torch.from_numpy(part.values["logits"][1])
                report_rows(len(part.rows))
        return found / self.scale, lengths > 0

    def _pixels(self, paths: Sequence[str]) -> tuple[Encoded, np.ndarray]:
        """The images at some paths, and 1 for each, 0 where there is no path."""
        assert self.images is not None
        lengths = np.array([int(bool(path.strip())) for path in paths], np.int64)
        shape = np.zeros((self.images.size, self.images.size), np.uint8)
        return self.images.encode_new(
            [str(self.base / path) if path.strip() else Drawn(shape, "") for path in paths]
        ), lengths

    def _tokens(self, texts: Sequence[str]) -> tuple[Encoded, np.ndarray]:
        """The tokens of some texts, and how many each has."""
        lengths = np.zeros(len(texts), np.int64)
        full = np.array([row for row, text in enumerate(texts) if text.strip()], np.int64)
        ids = [
            np.asarray(one, np.int32) for one in encode(self.tokenizer, [texts[row] for row in full], self.max_length)
        ]
        lengths[full] = [len(one) for one in ids]
        offsets, pad = np.concatenate([[0], np.cumsum(lengths)]), self.tokenizer.pad_token_id or 0
        pairs = len(full) > 0 and PAIR in texts[full[0]]
        number = separator(self.tokenizer) if pairs else None
        return Rows(np.concatenate([*ids, np.empty(0, np.int32)]), offsets, pad, separator=number), lengths

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """The label of each text and the probabilities of all labels, in the order of ``texts``."""
        logits, real = self.logits(texts)
        there = real.tolist()
        if self.numbers:
            found = zip(self.read_numbers(logits), there, strict=True)
            return [Prediction(number if yes else None, {}) for number, yes in found]
        probabilities = self.task.outcome.probabilities(logits).tolist()
        return [
            Prediction(label, dict(zip(self.labels, row, strict=True))) if yes else Prediction(None, {})
            for label, row, yes in zip(self.decide(logits), probabilities, there, strict=True)
        ]

    def read_numbers(self, logits: Tensor) -> list[float]:
        """The numbers that logits ``[N, 1]`` mean."""
        return list(self.task.outcome.chosen(logits).squeeze(-1).tolist())

    def decide(self, logits: Tensor) -> list[str | list[str]]:
        """The label, or the labels of a multi-label task, that logits ``[N, C]`` mean."""
        chosen = self.task.outcome.chosen(logits)
        if chosen.ndim > 1:
            return [[label for label, yes in zip(self.labels, row, strict=True) if yes] for row in chosen.tolist()]
        return [self.labels[index] for index in chosen.tolist()]
