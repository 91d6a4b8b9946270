"""The base of processors, which turn the raw value of a row into tensors: a tokenizer, an image processor …"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.file import read_json, write_json

ARGUMENTS = "processor.json"
PLAIN = (str, int, float, list, dict)


def saved_arguments(folder: Path) -> dict[str, Any]:
    """The arguments of a model's factory that a processor saved beside the model, by name."""
    path = folder / ARGUMENTS
    return read_json(path, "train the run again", dict) if path.exists() else {}


class Encoded(ABC):
    """All rows of a data set as a model reads them.

    Attributes:
        lengths: ``[N]`` int64, how many positions each row has on its token axis; of rows without such an axis, the
            cost of a row relative to the others, 1 where all cost the same.
    """

    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def costs(self) -> np.ndarray:
        """``[N]`` int64, the tokens that a row adds to a batch, by which batches are made: B times the largest of B
        rows is at least the number of tokens that a model reads of them, padding included."""
        return self.lengths

    @property
    def unpacked(self) -> Encoded:
        """The rows as the processor encoded them, where these are made of them."""
        return self

    @property
    def predictions(self) -> np.ndarray:
        """``[N]`` int64, the number of tokens of each row that a language model predicts: all but the first."""
        return np.maximum(self.lengths - 1, 0)

    @property
    def words(self) -> np.ndarray:
        """``[N]`` int64, the positions of each row that a task of words predicts something for; by default all."""
        return self.lengths

    def answers(self, index: np.ndarray, length: int) -> dict[str, Tensor]:
        """Targets that the rows ``index`` have in themselves, by name, such as which tokens answer a prompt.

        Args:
            length: positions of the batch's token axis, padding included.
        """
        return {}

    @abstractmethod
    def collate(self, index: np.ndarray) -> tuple[dict[str, Tensor], Tensor | None]:
        """The model's inputs for the rows ``index``.

        Returns:
            the keyword arguments of the model's ``forward``, and ``[B, L]`` bool: which positions of their token axis
            are real; None where rows have no such axis.
        """


class Processor(ABC):
    """Turns raw values into inputs, the same way for every row. The name is that of transformers.

    Attributes:
        inputs: the keyword arguments of ``forward`` that it makes.
        ends: ids of the tokens that end a generated row; empty: no token does.
        padding: the id after the end of a row of tokens.
    """

    inputs: ClassVar[tuple[str, ...]]
    ends: Sequence[int] = ()
    padding: int = 0

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

    def encode_new(self, values: Sequence[Any]) -> Encoded:
        """Values that are read once, such as changed ones; where it can, it keeps them in memory alone."""
        known = hashlib.sha256(self.digest.encode())
        for value in values:
            known.update(hashlib.sha256(str(value).encode()).digest())
        return self.encode(values, known.hexdigest()[:32])

    def token_bytes(self) -> np.ndarray | None:
        """``[V]`` int64: the bytes of text that each token stands for; None: rows are no texts, or it is not known."""
        return None

    def arguments(self) -> dict[str, Any]:
        """Arguments that a model's factory takes besides the labels, by name."""
        return {}

    def check(self, model: nn.Module, lengths: np.ndarray) -> None:  # noqa: B027  most models read any row
        """Refuse a model that cannot read the rows.

        Raises:
            UserError: such a model.
        """

    def saved(self, folder: Path) -> Processor | None:
        """The processor that is saved beside a model; None: there is none, and the model reads this one's inputs."""
        return None

    def equals(self, other: Processor) -> bool:
        """Whether models of one can read the inputs of the other."""
        return self.digest == other.digest

    def clashes(self, teacher: Processor) -> list[str]:
        """Sentences about a teacher's processor with which it would teach what is wrong; `kdlab doctor` fails."""
        return []

    def differences(self, teacher: Processor) -> list[str]:
        """Sentences about other differences from a teacher's processor, for which its answers may be worse."""
        return []

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The texts of rows of generated tokens, without their special tokens.

        Raises:
            UserError: its rows are no tokens.
        """
        raise UserError(
            f"{type(self).__name__} makes no tokens of a text, so nothing can be generated from its rows: choose a "
            "data set of texts, or leave out metrics and rules that generate"
        )

    def ends_of_tokens(self, values: Sequence[Any], fingerprint: str) -> Callable[[int], np.ndarray]:
        """From a row's id to where its tokens end in its text, as :func:`kdlab.alignment.groups` takes them.

        Args:
            fingerprint: that of :meth:`encode`.

        Raises:
            UserError: its rows are no tokens of one text.
        """
        raise UserError(
            f"{type(self).__name__} does not know where its tokens are in a text, so a teacher with another tokenizer "
            "cannot be aligned with the student: use a data set of plain texts, or a teacher with the student's"
        )

    def same_words(self, other: Processor) -> Tensor:
        """``[2, K]`` int64, the ids of the tokens of this processor and of another that are the same piece of text.

        Raises:
            UserError: one of the two makes no tokens of a text.
        """
        raise UserError(f"{type(self).__name__} makes no tokens of a text, which loss=uld and loss=gold compare")

    def prompts(self, values: Sequence[Any], most: int) -> tuple[Encoded, np.ndarray]:
        """Rows to generate an answer to, which need no answer of their own.

        Args:
            values: of rows; where a value has an answer at its end, a new one is generated in its place.
            most: tokens of a prompt; of longer ones the begin is left out.

        Returns:
            the rows, and ``[N]`` int64: how many tokens of each prompt are left out.

        Raises:
            UserError: its rows are no tokens.
        """
        raise UserError(f"{type(self).__name__} makes no tokens of a text, so nothing can be generated from its rows")

    @abstractmethod
    def example(self, length: int) -> dict[str, Tensor]:
        """One row of inputs, to measure what a model costs.

        Args:
            length: positions of its token axis, where there is one.
        """

    def usage(self) -> str:
        """Python lines for somebody without kdlab that make ``inputs``, a mapping of numpy arrays, from values and from
        the files in the variable ``folder``."""
        return f"inputs = {{}}  # by name, numpy arrays of {', '.join(self.inputs)}"

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the files from which :meth:`saved` makes it again: by default its plain arguments."""
        plain = {name: value for name, value in self.arguments().items() if isinstance(value, PLAIN)}
        if plain:
            write_json(Path(folder) / ARGUMENTS, plain)

    def notices(self, encoded: Encoded) -> list[str]:
        """Sentences about what is odd in the encoded rows."""
        return []

    def problems(self, encoded: Encoded) -> list[str]:
        """Those of the notices for which `kdlab doctor` fails."""
        return []

    def describe(self) -> dict[str, Any]:
        """Facts about it for the log: flat, plain values."""
        return {}
