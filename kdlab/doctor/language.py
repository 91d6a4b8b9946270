"""What breaks runs of language models before their first step: logits that do not fit, and rows that are too long."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from torch import nn

from kdlab.doctor.table import size
from kdlab.error import UserError

if TYPE_CHECKING:
    from kdlab.datamodule.data import Data

LARGE = 500_000_000  # bytes of logits from which on a smaller task.chunk is worth a note
CHUNK = 1024  # positions: fewer save little more, and more take longer to pay off


@final
@dataclass(frozen=True)
class Logits:
    """The logits that one model makes of the largest micro-batch.

    Attributes:
        positions: of the micro-batch, padding included.
        vocabulary: of the model.
        chunk: positions whose logits are in memory at a time; None: all.

    Example:
        >>> str(Logits(16_384, 49_152, None))
        'a micro-batch of 16,384 positions x 49,152 tokens x 4 bytes makes 3.22 GB of logits for each model'
    """

    positions: int
    vocabulary: int
    chunk: int | None

    @property
    def bytes(self) -> int:
        return min(self.positions, self.chunk or self.positions) * self.vocabulary * 4

    @property
    def advice(self) -> str:
        """The settings that help."""
        if self.chunk is None or self.chunk > CHUNK:
            least = Logits(self.positions, self.vocabulary, CHUNK).bytes
            return f"task.chunk={CHUNK} makes {size(least)} at a time, with the same losses and gradients"
        return "lower datamodule.batch_size or max_length, or raise trainer.accumulate_grad_batches"

    def __str__(self) -> str:
        count = min(self.positions, self.chunk or self.positions)
        which = "a micro-batch" if self.chunk is None else "a chunk"
        return (
            f"{which} of {count:,} positions x {self.vocabulary:,} tokens x 4 bytes makes {size(self.bytes)} of logits "
            "for each model"
        )


def check(
    trainer: Mapping[str, Any], data: Data, chunk: int | None, models: Mapping[str, nn.Module],
    vocabularies: Mapping[str, int], note: Callable[[str], None],
) -> list[str]:  # fmt: skip
    """What breaks the run.

    Args:
        trainer: the trainer's settings.
        chunk: positions whose logits are in memory at a time; None: all.
        models: by name, with or without weights.
        vocabularies: of the models.
        note: is called with what is worth knowing.

    Raises:
        UserError: not even the logits of a first step fit into memory.
    """
    if len(set(vocabularies.values())) > 1:
        note(sizes(vocabularies))
    positions = -(-data.tokens_per_step // trainer["accumulate_grad_batches"])
    logits, memory = Logits(positions, max(vocabularies.values()), chunk), physical()
    if trainer.get("accelerator") == "cpu" and logits.bytes > memory:
        raise UserError(f"{logits}, and this machine has {size(memory)}: {logits.advice}")
    if logits.bytes > LARGE:
        note(f"{logits}: {logits.advice}")
    longest = int(data.lengths.max())
    return [text for name, model in models.items() if (text := context(name, model, longest))]


def physical() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def sizes(vocabularies: Mapping[str, int]) -> str:
    """A sentence about models with vocabularies of different sizes.

    Example:
        >>> sizes({"student": 151_936, "teacher": 152_064})[:72]
        'the models have vocabularies of different sizes (student 151,936, teache'
    """
    shown = ", ".join(f"{name} {count:,}" for name, count in vocabularies.items())
    return (
        f"the models have vocabularies of different sizes ({shown}): only the ids that both have can be compared token "
        "by token; loss=gold and loss=uld compare pieces of the texts"
    )


def context(name: str, model: nn.Module, longest: int) -> str:
    """A sentence where rows are longer than a model was made for; "": they are not, or it has no such limit.

    Models with a table of positions fail at such a row; those with rotary positions read it, and answer badly.
    """
    config = getattr(model, "config", None)
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or longest <= most:
        return ""
    return (
        f"rows have up to {longest:,} tokens, but the {name} {type(model).__name__} was made for {most:,} positions: "
        f"set datamodule.max_length={most} or less"
    )
