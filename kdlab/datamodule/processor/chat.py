"""Dialogues as tokens, with the tokens of their answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import Tensor, nn

from kdlab.datamodule import answered
from kdlab.datamodule import tokenizer as tokens
from kdlab.datamodule.answered import AnsweredRow, AnsweredRows, unanswered
from kdlab.datamodule.dialogue import Dialogue
from kdlab.datamodule.odd import GRAVE, unknown
from kdlab.datamodule.processor import pair
from kdlab.datamodule.processor.base import Encoded, Processor
from kdlab.datamodule.processor.template import Rendered, Template
from kdlab.datamodule.processor.text import Text
from kdlab.datamodule.rows import sample
from kdlab.error import UserError
from kdlab.model.save import load_tokenizer

PART = 512  # dialogues that are tokenised together
END_OF_TEXT = (  # after which models of today's families write nothing
    "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>",
    "<|return|>", "<｜end▁of▁sentence｜>",
)  # fmt: skip


@final
class Chat(Processor):
    """A tokenizer and its chat template: ids and mask ``[B, L]`` int64 of dialogues, and which tokens answer.

    Args:
        tokenizer: of transformers, with offsets of its tokens in the text.
        max_length: tokens; of longer dialogues the oldest exchanges are left out, and then what :func:`cut` cuts.
        system: a system prompt for dialogues without one.
        last: whether only the last turn of the assistant is an answer.
        pretrained: whether the tokenizer was made from other texts, so that many words may be unknown to it.
    """

    inputs = ("input_ids", "attention_mask")

    def __init__(
        self, tokenizer: Any, max_length: int, system: str | None = None, last: bool = False, pretrained: bool = True
    ) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                f"{type(tokenizer).__name__} gives no offsets of its tokens, by which the tokens of answers are found: "
                "use a model with a tokenizer.json"
            )
        self.tokenizer, self.max_length, self.system, self.last = tokenizer, max_length, system, last
        self.pretrained = pretrained
        self.template = Template(tokenizer)
        self.text = Text(tokenizer, max_length, pretrained)
        self.padding = self.text.padding
        stop = [self.template.stop] if self.template.stop else []
        vocabulary = tokenizer.get_added_vocab()
        words = [*stop, *(word for word in END_OF_TEXT if word in vocabulary)]
        self.ends = tuple(dict.fromkeys([*tokens.ends(tokenizer), *map(tokenizer.convert_tokens_to_ids, words)]))

    def like(self, max_length: int, system: str | None, last: bool) -> Chat:
        """A processor with the same tokenizer and other settings."""
        return Chat(self.tokenizer, max_length, system, last, self.pretrained)

    @property
    def digest(self) -> str:
        how = [1, self.max_length, self.system, self.last, self.template.source, tokens.digest(self.tokenizer)]
        return hashlib.sha256(repr(how).encode()).hexdigest()

    def encode(self, values: Sequence[Dialogue], fingerprint: str) -> AnsweredRows:
        some = sample(fingerprint, len(values))
        if some is None:
            return answered.stored(fingerprint, len(values), lambda: self.rows(values), self.padding)
        return answered.repeated(list(self.rows([values[row] for row in some])), len(values), self.padding)

    def rows(self, values: Sequence[Dialogue]) -> Iterator[AnsweredRow]:
        """Each dialogue as tokens, no more than ``max_length``.

        Raises:
            UserError: the chat template refuses one.
        """
        for start in range(0, len(values), PART):
            part = [one.with_system(self.system) for one in values[start : start + PART]]
            for one, row in zip(part, self._whole(part), strict=True):
                yield row if len(row.tokens) <= self.max_length else self._shortened(one, row)

    def sizes(self, values: Sequence[Dialogue]) -> list[int]:
        """The number of tokens of each dialogue, not cut. Errors: as :meth:`rows`."""
        given = [one.with_system(self.system) for one in values]
        parts = (given[start : start + PART] for start in range(0, len(given), PART))
        return [len(row.tokens) for part in parts for row in self._whole(part)]

    def _shortened(self, dialogue: Dialogue, row: AnsweredRow) -> AnsweredRow:
        """The row without as few of the oldest exchanges as possible; of the last one, what :func:`cut` leaves."""
        low, high, kept, whole = 1, len(dialogue.answers) - 1, row, len(row.tokens)
        while low <= high:
            middle = (low + high) // 2
            (tried,) = self._whole([dialogue.without_oldest(middle)])
            fits = len(tried.tokens) <= self.max_length
            if fits or len(kept.tokens) > self.max_length:
                kept = tried
            low, high = (low, middle - 1) if fits else (middle + 1, high)
        if len(kept.tokens) > self.max_length:
            kept = cut(kept, self.max_length, self.tokenizer.bos_token_id)
        return AnsweredRow(kept.tokens, kept.answer, whole - len(kept.tokens))

    def _whole(self, dialogues: Sequence[Dialogue]) -> list[AnsweredRow]:
        rendered = [self._rendered(one) for one in dialogues]
        found = self.tokenizer(
            [one.text for one in rendered], add_special_tokens=False, return_offsets_mapping=True,
            return_attention_mask=False,
        )  # fmt: skip
        rows = []
        for one, ids, offsets in zip(rendered, found["input_ids"], found["offset_mapping"], strict=True):
            answer = marked(offsets, one.spans)
            end = tokens.ends(self.tokenizer)[:1] if one.open else ()
            rows.append(AnsweredRow([*ids, *end], [*answer.tolist(), *[True] * len(end)]))
        return rows

    def _rendered(self, dialogue: Dialogue) -> Rendered:
        try:
            return self.template.spans(dialogue, self.last)
        except ValueError as problem:
            raise UserError(f"{dialogue.where} {problem}") from problem

    def token_bytes(self) -> np.ndarray:
        return self.text.token_bytes()

    def arguments(self) -> dict[str, Any]:
        return self.text.arguments()

    def check(self, model: nn.Module, lengths: np.ndarray) -> None:
        self.text.check(model, lengths)

    def saved(self, folder: Path) -> Chat | None:
        found = load_tokenizer(folder)
        return None if found is None else Chat(found, self.max_length, self.system, self.last)

    def equals(self, other: Processor) -> bool:
        """Whether models of one can read the tokens of the other, whatever their templates and ends of texts are."""
        return isinstance(other, Chat) and bool(self.tokenizer.get_vocab() == other.tokenizer.get_vocab())

    @property
    def stop(self) -> int | None:
        """The id that ends the last answer of a row; None: no token does."""
        if self.template.stop:
            return int(self.tokenizer.convert_tokens_to_ids(self.template.stop))
        return next(iter(tokens.ends(self.tokenizer)), None)

    def clashes(self, teacher: Processor) -> list[str]:
        return pair.clashes(self, teacher) if isinstance(teacher, Chat) else []

    def differences(self, teacher: Processor) -> list[str]:
        return pair.differences(self, teacher) if isinstance(teacher, Chat) else []

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return self.text.decode(rows)

    def prompts(self, values: Sequence[Dialogue], most: int) -> tuple[Encoded, np.ndarray]:
        open_ended = [one.with_answer() for one in values]
        found = list(self.rows(open_ended))
        begins = [int(np.flatnonzero(~np.asarray(one.answer, bool))[-1]) + 1 for one in found]
        prompts = [one.tokens[:begin] for one, begin in zip(found, begins, strict=True)]
        rows = unanswered(prompts, most, self.tokenizer.bos_token_id, self.padding)
        return rows, rows.lost + [one.lost for one in found]

    def example(self, length: int) -> dict[str, Tensor]:
        return self.text.example(length)

    def save_pretrained(self, folder: str | Path) -> None:
        self.text.save_pretrained(folder)

    def notices(self, encoded: Encoded) -> list[str]:
        assert isinstance(encoded, AnsweredRows)
        found = self.text.notices(encoded.rows)
        if not self.template.given:
            found.append("the tokenizer has no chat template, so turns are written as lines 'user:' and 'assistant:'")
        elif not self.template.stop:
            end = "".join(map(str, self.tokenizer.convert_ids_to_tokens(list(tokens.ends(self.tokenizer)[:1]))))
            added = f"'{end}' is added after the last answer" if end else "a student cannot learn to stop"
            found.append(f"the chat template ends turns with no token of the tokenizer: {added}")
        return found

    def problems(self, encoded: Encoded) -> list[str]:
        assert isinstance(encoded, AnsweredRows)
        return [] if not self.pretrained else unknown(encoded.rows, self.tokenizer, GRAVE)

    def describe(self) -> dict[str, Any]:
        return self.text.describe()


def marked(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """``[L]`` bool: which tokens are of the spans. A token over the begin of a span is of it.

    Args:
        offsets: where each token begins and ends in the text; equal where it is nothing but space that is trimmed.
        spans: in their order.

    Example:
        >>> marked([(0, 2), (2, 5), (5, 5), (5, 9)], [(3, 6)]).tolist()
        [False, True, True, True]
    """
    begins, ends = np.asarray(offsets, np.int64).reshape(-1, 2).T
    before = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    begins = np.where(begins == ends, before, begins)
    found = np.zeros(len(begins), bool)
    for begin, end in spans:
        found |= (begins < end) & ((begins >= begin) | (ends > begin))
    return found


def cut(row: AnsweredRow, length: int, first: int | None = None) -> AnsweredRow:
    """The end of a row's prompt and the begin of its last answer, in ``length`` tokens.

    The prompt gives way first, down to half of the row; then the answer loses its end, and with it the token by which
    a student would learn to stop there. A token that begins every text stays.

    Args:
        first: the id of that token.

    Example:
        >>> cut(AnsweredRow([7, 1, 2, 3, 4, 5, 6], [False] * 4 + [True] * 3), 4, first=7).tokens
        [7, 3, 4, 5]
    """
    mark = np.asarray(row.answer, bool)
    begin = int(np.flatnonzero(~mark)[-1]) + 1 if not mark.all() else 0
    answer = min(len(mark) - begin, max(length - length // 2, length - begin))
    keep = np.arange(begin - (length - answer), begin + answer)
    if first is not None and length - answer > 1 and row.tokens[0] == first:
        keep[0] = 0
    return AnsweredRow([row.tokens[one] for one in keep.tolist()], mark[keep].tolist())
