"""Dialogues as one text, by a tokenizer's chat template, and where the answers are in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from jinja2.exceptions import TemplateError

from kdlab.datamodule.dialogue import ASSISTANT, Dialogue, Message
from kdlab.datamodule.tokenizer import ends

MARK = "\ue000{}\ue001"  # of a private area: stands for an answer while a template renders
PROBE = Dialogue((Message("user", "1"), Message(ASSISTANT, "2")))
PLAIN = (  # for a tokenizer without a template; only an answer ends with a token, by which a student learns to stop
    "{begin}{{% for message in messages %}}{{{{ message['role'] + ':\\n' + message['content'] }}}}"
    "{{% if message['role'] == 'assistant' %}}{end}{{% endif %}}{{{{ '\\n' }}}}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{{{{ 'assistant:\\n' }}}}{{% endif %}}"
)


@final
@dataclass(frozen=True)
class Rendered:
    """A dialogue as text.

    Attributes:
        text: up to the end of the last answer.
        spans: where each answer begins in ``text``, and where it ends: after the token that ends the turn.
        open: whether the text ends without such a token, so that one has to be added.
    """

    text: str
    spans: list[tuple[int, int]]
    open: bool = False


@final
class Template:
    """The chat template of a tokenizer, or a plain one where it has none.

    An answer begins where generating would begin: after the template's generation prompt, or where it has none, at the
    answer's own text. Each answer is found by rendering the dialogue with a mark in its place, so no template has to
    mark its answers itself; whatever it puts between (a thought, a space) is seen.

    Example:
        >>> from transformers import PreTrainedTokenizerFast
        >>> from kdlab.datamodule.tokenizer import SPECIAL, wordpiece
        >>> template = Template(PreTrainedTokenizerFast(tokenizer_object=wordpiece(["hi"], 100), **SPECIAL))
        >>> found = template.spans(Dialogue((Message("user", "hi"), Message("assistant", "hello"))))
        >>> found.text[found.spans[0][0] :], template.prompt
        ('hello[SEP]', 'assistant:\\n')
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.given = bool(tokenizer.chat_template)
        self.own = None if self.given else plain(tokenizer)

    @cached_property
    def source(self) -> str:
        """What decides how a dialogue is rendered."""
        return str(self.tokenizer.chat_template if self.given else self.own)

    @cached_property
    def prompt(self) -> str:
        """The text that a turn of the assistant begins with; "": the template has no generation prompt."""
        try:
            before, after = (self.render(Dialogue(PROBE.messages[:1]), one) for one in (False, True))
        except ValueError:
            return ""
        return after[len(before) :] if after.startswith(before) else ""

    @cached_property
    def stop(self) -> str:
        """The token that ends a turn of the assistant; "": none does."""
        words = sorted({*self.tokenizer.get_added_vocab(), *self._ends}, key=len, reverse=True)
        found = re.match(rf"\s*({'|'.join(map(re.escape, words))})", self._around_probe[1]) if words else None
        return found[1] if found else ""

    @property
    def _ends(self) -> list[str]:
        return [self.tokenizer.convert_ids_to_tokens(one) for one in ends(self.tokenizer)]

    @cached_property
    def _stopped(self) -> re.Pattern[str]:
        words = sorted({self.stop, *self._ends} - {""}, key=len, reverse=True)
        return re.compile(rf"\s*(?:{'|'.join(map(re.escape, words))})" if words else r"(?!)")

    def render(self, dialogue: Dialogue, prompt: bool = False) -> str:
        """The text of a dialogue.

        Args:
            prompt: whether the generation prompt follows.

        Raises:
            ValueError: the template refuses it.
        """
        messages = [{"role": one.role, "content": one.content} for one in dialogue.messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=prompt, chat_template=self.own
                )
            )
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as problem:
            reason = " ".join(str(problem).split())[:200] or type(problem).__name__
            raise ValueError(f"is refused by the chat template: {reason}") from problem

    def spans(self, dialogue: Dialogue, last: bool = False) -> Rendered:
        """A dialogue as text, and its answers.

        Args:
            last: whether only the last turn of the assistant is an answer.

        Raises:
            ValueError: the template refuses it, or leaves out or changes an answer; the message is the rest of a
                sentence about the row.
        """
        places = dialogue.answers
        text, pieces = self.render(dialogue), self._around(dialogue, places)
        spans, at = [], 0
        for number, place in enumerate(places):
            head, between = self._cut(pieces[number])
            begin = at + len(head)
            after = self._cut(pieces[number + 1])[0] if number + 1 < len(places) else pieces[-1]
            content = dialogue.messages[place].content
            at = _end(text, begin, after, {_spaced(content), _spaced(between + content)})
            if not text.startswith(head, begin - len(head)) or at < 0:
                raise ValueError(
                    f"has an answer (number {number + 1}) that the chat template changes, so that its tokens cannot be "
                    "found"
                )
            stopped = self._stopped.match(text, at)
            spans.append((begin, stopped.end() if stopped else at))
        unstopped = spans[-1][1] == at
        if unstopped:
            spans[-1] = (spans[-1][0], len(text))
        return Rendered(text[: spans[-1][1]], spans[-1:] if last else spans, unstopped)

    def _around(self, dialogue: Dialogue, places: Sequence[int]) -> list[str]:
        """The text before, between and after the answers."""
        marks = [MARK.format(number) for number in range(len(places))]
        messages = list(dialogue.messages)
        for place, mark in zip(places, marks, strict=True):
            messages[place] = Message(ASSISTANT, mark)
        rest, pieces = self.render(Dialogue(tuple(messages))), []
        for number, mark in enumerate(marks, 1):
            if rest.count(mark) != 1:
                raise ValueError(f"has an answer (number {number}) that the chat template leaves out or repeats")
            piece, _, rest = rest.partition(mark)
            pieces.append(piece)
        return [*pieces, rest]

    def _cut(self, piece: str) -> tuple[str, str]:
        """The text before an answer up to its generation prompt, and what the template puts after that."""
        if not self.prompt or self.prompt not in piece:
            return piece, ""
        end = piece.rindex(self.prompt) + len(self.prompt)
        # anything else comes from a message that quotes the generation prompt
        return (piece[:end], piece[end:]) if piece[end:] in ("", self._around_probe[0]) else (piece, "")

    @cached_property
    def _around_probe(self) -> tuple[str, str]:
        """What the template puts between the generation prompt and a short answer, and after the answer."""
        try:
            text = self.render(Dialogue((PROBE.messages[0], Message(ASSISTANT, MARK))))
        except ValueError:
            return "", ""
        before, _, after = text.rpartition(MARK)
        return before.rpartition(self.prompt)[2] if self.prompt else "", after


def plain(tokenizer: Any) -> str:
    """A chat template of plain words, with the tokenizer's own begin and end of a text.

    Each turn is a line with the role, and the text; after an answer comes the end of a text.
    """
    first = tokenizer("a")["input_ids"][:1]
    known = {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None}
    begin = tokenizer.convert_ids_to_tokens(first[0]) if first and first[0] in known else ""
    end = "".join(tokenizer.convert_ids_to_tokens(one) for one in ends(tokenizer))
    return PLAIN.format(begin=begin, end=end)


def _end(text: str, begin: int, after: str, wanted: set[str]) -> int:
    """Where an answer ends that begins at ``begin`` and before ``after``; -1: it is another."""
    at = text.find(after, begin) if after else len(text)
    while at >= 0 and _spaced(text[begin:at]) not in wanted:
        at = text.find(after, at + 1) if after else -1
    return at


def _spaced(text: str) -> str:
    """The text with single spaces: templates trim answers, and add empty lines around thoughts."""
    return " ".join(text.split())
