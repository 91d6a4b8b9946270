"""Dialogues with answers: what all data sets of dialogues share."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kdlab.datamodule import tokenizer, windows
from kdlab.datamodule.answered import AnsweredRows
from kdlab.datamodule.base import TextData
from kdlab.datamodule.corpus import Corpus, counted
from kdlab.datamodule.dialogue import ROLES, Dialogue
from kdlab.datamodule.processor.base import Encoded, Processor
from kdlab.datamodule.processor.chat import Chat
from kdlab.error import UserError


@dataclass(kw_only=True, eq=False, repr=False)
class ChatData(TextData, ABC):
    """Dialogues. A data set implements :meth:`corpus`, whose values are :class:`Dialogue`; the rest is here.

    Args:
        system: a system prompt for dialogues without one.
        answers: whether the loss is on ``all`` turns of the assistant or on the ``last`` one.
        long: of rows of more than ``max_length`` tokens: ``cut`` them, make them into ``windows`` of turns, each a row
            of its own, ``drop`` or ``refuse`` them. Where only the last answer counts, windows are cut as well.
    """

    system: str | None = None
    answers: Literal["all", "last"] = "all"
    long: Literal["cut", "windows", "drop", "refuse"] = "cut"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, known in (
            ("answers", self.answers, "all or last"),
            ("long", self.long, "cut, windows, drop or refuse"),
        ):
            if value not in known.replace(" or", ",").split(", "):
                raise UserError(f"datamodule.{name} is '{value}', and must be {known}")

    def make_processor(self, values: Sequence[Dialogue]) -> Processor:
        texts = [f"{role}:" for role in ROLES] + [message.content for one in values for message in one.messages]
        self.tokenizer = tokenizer.load(self.tokenizer_spec, texts, self.download)
        pretrained = not self.tokenizer_spec.startswith(tokenizer.TRAIN)
        return Chat(self.tokenizer, self.max_length, self.system, self.answers == "last", pretrained)

    def key(self, value: Dialogue) -> str:
        return value.key

    def check_rows(self, corpus: Corpus) -> None:
        """Nothing: dialogues are checked when they are read."""

    def oddities(self, corpus: Corpus) -> list[str]:
        """A sentence where evaluated dialogues of one turn have prompts of training rows, with other answers."""
        prompts = {row: one.messages[:-1] for row, one in enumerate(corpus.values) if len(one.answers) == 1}
        train = {prompts[row] for row in self.splits["train"].tolist() if row in prompts}
        found = []
        for split in () if self.splits["train"] is self.splits["test"] else ("val", "test"):
            count = sum(prompts.get(row) in train for row in self.splits[split].tolist())
            if count:
                rows = counted(count, f"{split} row has", f"{split} rows have")
                found.append(f"{rows} a prompt that training rows have too, with another answer")
        return found

    def divided(self, corpus: Corpus) -> list[list[Dialogue]] | None:
        """With ``long=windows`` the windows of each dialogue, with a notice; None where all dialogues are short."""
        if self.long != "windows" or self.answers != "all":
            return None
        processor, values = self.processor, corpus.values
        assert isinstance(processor, Chat)
        found = windows.kept(values, processor.digest, processor.sizes, self.max_length)
        long = [row for row, spans in enumerate(found) if len(spans) > 1]
        if not long:
            return None
        made = sum(len(found[row]) for row in long)
        rows = counted(len(long), "row is", "rows are")
        self._notice(
            f"{rows} longer than datamodule.max_length={self.max_length} and made into {made:,} windows of turns "
            f"(first: {corpus.row_name(long[0])}): no answer is left out, and each sees the turns of its own window"
        )
        return [
            [value.part(*span) for span in spans] if len(spans) > 1 else [value]
            for value, spans in zip(values, found, strict=True)
        ]

    def kept(self, encoded: Encoded, corpus: Corpus) -> np.ndarray:
        assert isinstance(encoded, AnsweredRows)
        lost = encoded.lost
        kept = np.ones(len(lost), bool)
        if not (count := int(np.count_nonzero(lost))) or encoded.rows.sampled is not None:
            return kept
        first = int(np.flatnonzero(lost)[0])
        longest = int((lost + encoded.lengths).max())
        rows = f"{counted(count, 'row is', 'rows are')} longer than datamodule.max_length={self.max_length}"
        shown = f"the longest has {longest:,} tokens, first: {corpus.row_name(first)}"
        if self.long == "refuse":
            raise UserError(
                f"{corpus.where}: {rows} ({shown}): raise datamodule.max_length, or set datamodule.long=cut, windows "
                "or drop"
            )
        total = int(encoded.lengths.sum() + lost.sum())
        if self.long == "drop":
            kept = lost == 0
            gone = int((encoded.lengths + lost)[~kept].sum())
            self._notice(f"{rows} and left out ({shown}): {gone:,} of {total:,} tokens")
            return kept
        remedy = "; datamodule.long=windows keeps all answers" * (self.long == "cut" and self.answers == "all")
        missing = " and ".join([f"{int(lost.sum()):,} of {total:,} tokens", *self._gone(encoded)])
        self._notice(f"{rows} and cut ({shown}): {missing} are lost{remedy}")
        return kept

    def _gone(self, encoded: AnsweredRows) -> list[str]:
        """What of the answers was cut off, for a notice."""
        had = np.array([1 if self.answers == "last" else len(value.answers) for value in self.values])
        missing, ends = int((had - encoded.answer_counts).clip(0).sum()), set(self.processor.ends)
        endless = sum(int(encoded.rows.row(row)[-1]) not in ends for row in np.flatnonzero(encoded.lost).tolist())
        silent = int(np.count_nonzero(encoded.predictions == 0))
        return [
            *[f"{missing:,} of {int(had.sum()):,} answers"] * bool(missing),
            *[f"the end of {counted(endless, 'last answer', 'last answers')}"] * bool(endless and ends),
            *[f"all answers of {counted(silent, 'row', 'rows')}"] * bool(silent),
        ]
