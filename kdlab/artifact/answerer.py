"""A trained model that writes: prompts in, texts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from kdlab.artifact.trained import Trained
from kdlab.config.instantiate import target_of
from kdlab.datamodule import tokenizer
from kdlab.datamodule.base import TextData
from kdlab.datamodule.batch import EncodedRows
from kdlab.datamodule.chat_data import ChatData
from kdlab.datamodule.dialogue import Dialogue, Message
from kdlab.datamodule.processor.base import Encoded, Processor
from kdlab.datamodule.processor.chat import Chat
from kdlab.datamodule.processor.pairs import TARGET, Pairs
from kdlab.datamodule.processor.text import Text
from kdlab.datamodule.target import Labels
from kdlab.error import UserError
from kdlab.generation import Sampling
from kdlab.metric.writing import write
from kdlab.task.generative import GenerativeTask
from kdlab.value import LARGEST


@dataclass(frozen=True)
class Answer:
    """What a model wrote for one prompt.

    Attributes:
        text: without special tokens; None where there is no prompt.
        ended: whether it ended by itself, before ``max_new_tokens``.
        cut: how many tokens of the prompt the model did not read.
    """

    text: str | None
    ended: bool | None = None
    cut: int = 0


@dataclass(frozen=True)
class Answerer:
    """Answers prompts as ``metric=generation`` does: the same tokens, the same precision.

    Attributes:
        model, task, processor: those of the run.
        max_length: tokens of a prompt; of longer ones the begin is left out.
        dialogues: whether its prompts are dialogues.
    """

    model: nn.Module
    task: GenerativeTask
    processor: Processor
    max_length: int
    dialogues: bool = False

    def answers(self, values: Sequence[Any], sampling: Sampling, seed: int = 0) -> list[Answer]:
        """An answer to each prompt, in their order.

        Args:
            values: texts, or where the model has learned dialogues :class:`kdlab.datamodule.dialogue.Dialogue`.
            seed: of what is drawn, which also depends on what the values are together.
        """
        most = self.longest(sampling)
        full = [row for row, value in enumerate(values) if value and (not isinstance(value, str) or value.strip())]
        found = [Answer(None)] * len(values)
        if not full:
            return found
        given = [self._turn(values[row]) for row in full]
        encoded, cut = self.processor.prompts(given, most)
        prompts = Prompts(given, self.processor, encoded)
        there = np.flatnonzero(encoded.predictions > 0).tolist()  # the others have no token
        written = write(self.task, prompts, self.model, there, sampling, seed)
        for row, text, ended in zip(written.rows, written.answers, written.ended, strict=True):
            found[full[row]] = Answer(text, ended, int(cut[row]))
        return found

    def write(self, texts: Sequence[Any], seed: int = 0, **sampling: Any) -> list[str | None]:
        """The text that the model writes for each prompt, in their order; None where there is no prompt.

        Args:
            sampling: settings of :class:`kdlab.generation.Sampling`.
        """
        return [one.text for one in self.answers(texts, Sampling(**sampling), seed)]

    def _turn(self, value: Any) -> Any:
        """A text as a turn of the user, where prompts are dialogues."""
        return Dialogue((Message("user", value),)) if self.dialogues and isinstance(value, str) else value

    def longest(self, sampling: Sampling) -> int:
        """The most tokens of a prompt that leave room for an answer.

        Raises:
            UserError: none does.
        """
        most = self.task.longest_prompt(self.model, sampling.max_new_tokens)
        if most is not None and most < 1:
            raise UserError(
                f"max_new_tokens={sampling.max_new_tokens} is more than the positions of {type(self.model).__name__} "
                "have room for after a prompt: set a smaller number"
            )
        return self.max_length if most is None else min(most, self.max_length)


@dataclass
class Prompts:
    """Prompts as a data set.

    Attributes:
        values: of the rows.
        processor: encoded them.
        encoded: with a place for each answer.
    """

    values: list[Any]
    processor: Processor
    encoded: Encoded

    def encoded_rows(self) -> EncodedRows:
        return EncodedRows(self.encoded, Labels((), np.full(len(self.values), -1)))


def answerer_of(subject: Trained, task: GenerativeTask, max_length: int | None = None) -> Answerer:
    """The model of a run, or of a folder that ``save_pretrained`` wrote, with the tokens that it was trained with.

    Args:
        max_length: tokens of a prompt; None: of a row of the run's data, and for another model as many as it reads.

    Raises:
        UserError: its rows are no texts.
    """
    stored = subject.stored
    if not any((subject.weights / name).exists() for name in ("tokenizer_config.json", "tokenizer.json")):
        raise UserError(f"{subject.weights} has no tokenizer, which prompts are read with: save it into that folder")
    own = tokenizer.load(str(subject.weights), [])
    options: dict[str, Any] = {}
    kind: Any = ChatData if own.chat_template else TextData
    if stored is not None:
        kind, options = target_of(stored.datamodule), dict(stored.datamodule)
    if not (isinstance(kind, type) and issubclass(kind, TextData)):
        raise UserError(f"run {subject.id} reads no texts, of which a file of prompts could be made: predict needs one")
    longest = max_length or options.get("max_length") or LARGEST
    if task.kind == "seq2seq":
        folder = subject.weights / TARGET
        target = tokenizer.load(str(folder), []) if folder.exists() else own
        processor: Processor = Pairs(own, target, longest, options.get("max_target_length") or longest)
    elif issubclass(kind, ChatData):
        processor = Chat(own, longest, options.get("system"), options.get("answers") == "last")
    else:
        processor = Text(own, longest)
    task.ends, task.padding = processor.ends, processor.padding
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Answerer(subject.model.eval().to(device), task, processor, longest, isinstance(processor, Chat))
