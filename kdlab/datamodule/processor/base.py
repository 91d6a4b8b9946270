"""What turns the raw value of a row into tensors: a tokenizer, an image processor, a feature extractor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from kdlab.file import read_json, write_json

ARGUMENTS = "processor.json"
PLAIN = (str, int, float, list, dict)


def saved_arguments(folder: Path) -> dict[str, Any]:
    """What a processor left beside a model, by the names of the arguments of the model's maker."""
    path = folder / ARGUMENTS
    return read_json(path, "train the run again", dict) if path.exists() else {}


class Encoded(ABC):
    """All rows of a data set as a model reads them.

    Attributes:
        lengths: ``[N]`` int64, how many positions each row has on its token axis; of rows without such an axis, what
            one row costs beside the others, 1 where all cost the same. Batches of the teacher's pass are cut by it.
    """

    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    @abstractmethod
    def collate(self, index: np.ndarray) -> tuple[dict[str, Tensor], Tensor | None]:
        """What a model reads of the rows ``index``.

        Returns:
            the keyword arguments of the model's ``forward``, and ``[B, L]`` bool: which positions of their token axis
            are real; None where rows have no such axis.
        """


class Processor(ABC):
    """Turns raw values into inputs, the same way for every row. The name is that of transformers.

    Attributes:
        inputs: the keyword arguments of ``forward`` that it makes.
    """

    inputs: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def digest(self) -> str:
        """A hash of all that decides how a value is encoded, besides the value."""

    @abstractmethod
    def encode(self, values: Sequence[Any], fingerprint: str) -> Encoded:
        """All rows.

        Args:
            fingerprint: a hash of this processor and of the keys of ``values``: where to keep what was encoded.
        """

    def arguments(self) -> dict[str, Any]:
        """What makers of models are given besides the labels, by the names of their arguments."""
        return {}

    def check(self, model: nn.Module, lengths: np.ndarray) -> None:  # noqa: B027  most models read any row
        """Refuse a model that cannot read the rows.

        Raises:
            UserError: such a model.
        """

    def saved(self, folder: Path) -> Processor | None:
        """The processor that lies beside a saved model; None: none does, and the model reads what this one makes."""
        return None

    def equals(self, other: Processor) -> bool:
        """Whether models of one can read what the other makes."""
        return self.digest == other.digest

    @abstractmethod
    def example(self, length: int) -> dict[str, Tensor]:
        """One row of inputs, to measure what a model costs.

        Args:
            length: positions of its token axis, where there is one.
        """

    def save_pretrained(self, folder: str | Path) -> None:
        """Write beside a saved model what is needed to make it again: by default those arguments that are plain."""
        plain = {name: value for name, value in self.arguments().items() if isinstance(value, PLAIN)}
        if plain:
            write_json(Path(folder) / ARGUMENTS, plain)

    def notices(self, encoded: Encoded) -> list[str]:
        """What is odd about the encoded rows, a sentence each."""
        return []

    def describe(self) -> dict[str, Any]:
        """What is good to know about it: flat, plain values."""
        return {}
