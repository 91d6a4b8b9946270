"""Dialogues: messages with roles, read from the cells of a table and checked, without importing torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, final

ROLES = ("system", "user", "assistant", "tool")
ASSISTANT = "assistant"
CALLS = ("tool_calls", "function_call")  # of a message: its content alone would be another answer


@final
@dataclass(frozen=True)
class Message:
    """A turn: who speaks, and the text."""

    role: str
    content: str


@final
@dataclass(frozen=True)
class Dialogue:
    """Messages in their order; the last one answers.

    Attributes:
        where: the row in messages, such as ``chats.jsonl: line 3``.
    """

    messages: tuple[Message, ...]
    where: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """Equal for equal messages.

        Example:
            >>> Dialogue((Message("user", "Hi"),)).key
            '[["user", "Hi"]]'
        """
        return json.dumps([[one.role, one.content] for one in self.messages], ensure_ascii=False)

    @property
    def answers(self) -> list[int]:
        """The positions of the assistant's turns."""
        return [place for place, one in enumerate(self.messages) if one.role == ASSISTANT]

    def with_system(self, text: str | None) -> Dialogue:
        """The same with a system prompt, where it has none."""
        if not text or self.messages[0].role == "system":
            return self
        return Dialogue((Message("system", text), *self.messages), self.where)

    def with_answer(self) -> Dialogue:
        """The same with an answer at its end, if it has none, in whose place one can be generated."""
        if self.messages[-1].role == ASSISTANT:
            return self
        return Dialogue((*self.messages, Message(ASSISTANT, "1")), self.where)

    def without_oldest(self, exchanges: int) -> Dialogue:
        """The same without its oldest exchanges, each up to a turn of the assistant; a system prompt stays.

        Example:
            >>> turns = [Message(role, text) for text in "ab" for role in ("user", "assistant")]
            >>> [one.content for one in Dialogue(tuple(turns)).without_oldest(1).messages]
            ['b', 'b']
        """
        system = self.messages[:1] if self.messages[0].role == "system" else ()
        begin = self.answers[exchanges - 1] + 1 if exchanges else len(system)
        return Dialogue((*system, *self.messages[begin:]), self.where)

    def exchanges(self) -> list[tuple[int, int]]:
        """Where each exchange begins and ends in the messages: from a turn of the user to the answers before the next.

        Example:
            >>> turns = [Message(role, "a") for role in ("system", "user", "assistant", "tool", "assistant", "user")]
            >>> Dialogue((*turns, Message("assistant", "b"))).exchanges()
            [(1, 5), (5, 7)]
        """
        after = [one + 1 for one in self.answers]
        begins = [one for one in after if one < len(self.messages) and self.messages[one].role == "user"]
        first = int(self.messages[0].role == "system")
        return list(pairwise([first, *begins, len(self.messages)]))

    def part(self, begin: int, end: int) -> Dialogue:
        """The exchanges from ``begin`` to before ``end``, after the system prompt."""
        found = self.exchanges()
        system = self.messages[: found[0][0]]
        return Dialogue((*system, *self.messages[found[begin][0] : found[end - 1][1]]), self.where)


@final
@dataclass(frozen=True)
class Format:
    """The names that a file has for the parts of a message.

    Attributes:
        role_key, content_key: the keys of a message's role and text.
        roles: names of the file for the roles, such as ``{human: user, gpt: assistant}``.
    """

    role_key: str = "role"
    content_key: str = "content"
    roles: Mapping[str, str] = field(default_factory=dict)

    def messages(self, cell: Any) -> list[Message]:
        """The messages of a cell: a list of objects, or such a list as JSON.

        Raises:
            ValueError: it is no such list; the message is the rest of a sentence about the row.

        Example:
            >>> Format().messages([{"role": "user", "content": "Hi"}])
            [Message(role='user', content='Hi')]
        """
        found = _parsed(cell) if isinstance(cell, str) else cell
        if not isinstance(found, Sequence) or isinstance(found, str) or not len(found):
            raise ValueError(f"has {_shown(cell)} instead of a list of messages")
        return [self._message(one, number) for number, one in enumerate(found, 1)]

    def turns(self, cell: Any, role: str) -> list[Message]:
        """A text as a turn of ``role``, or a list of messages as it is. Errors: as :meth:`messages`."""
        if isinstance(cell, str):
            return [Message(role, cell)]
        if isinstance(cell, Sequence):
            return self.messages(cell)
        raise ValueError(f"has {_shown(cell)} instead of a text or a list of messages")

    def _message(self, one: Any, number: int) -> Message:
        if not isinstance(one, Mapping) or self.role_key not in one or self.content_key not in one:
            keys = f", which has {', '.join(map(str, one))}" if isinstance(one, Mapping) else f" ({_shown(one)})"
            other = isinstance(one, Mapping) and {"from", "value"} <= set(one)
            advice = (
                ": set datamodule.role_key=from datamodule.content_key=value "
                "'datamodule.roles={human:user,gpt:assistant}'" if other else ""
            )  # fmt: skip
            raise ValueError(f"has no {self.role_key} and {self.content_key} in message {number}{keys}{advice}")
        for name in CALLS:
            if one.get(name):
                raise ValueError(f"has {name} in message {number}, which cannot be read: write them into its content")
        role = str(one[self.role_key])
        role = str(self.roles.get(role, role))
        if role not in ROLES:
            raise ValueError(
                f"has the unknown role '{role[:40]}' in message {number}: known are {', '.join(ROLES)}; give others a "
                f"name with datamodule.roles, such as {{{role[:40]}: user}}"
            )
        return Message(role, _text(one[self.content_key], number))


def dialogue(messages: Sequence[Message], where: str, answered: bool = True) -> Dialogue:
    """Messages as a row, without an empty system prompt.

    Args:
        answered: whether it must end with an answer, from which a model can learn.

    Raises:
        ValueError: nothing can be learned from them; the message is the rest of a sentence about the row.

    Example:
        >>> dialogue([Message("system", ""), Message("user", "Hi"), Message("assistant", "Hello")], "").answers
        [1]
    """
    kept = [one for one in messages if one.role != "system" or one.content.strip()]
    for number, one in enumerate(messages, 1):
        if one.role == "system" and number > 1:
            raise ValueError(f"has a system prompt in message {number}: it can only come first")
        if one.role != "system" and not one.content.strip():
            raise ValueError(f"has an empty message {number}, by the {one.role}: fill it or remove the row")
        if not one.content.isascii() and _broken(one.content):
            raise ValueError(f"has half a character (a lone surrogate) in message {number}: correct it")
    if not kept:
        raise ValueError("has no turn by the user: add one")
    if answered and not any(one.role == ASSISTANT for one in kept):
        raise ValueError("has no turn by the assistant, so there is no answer to learn: add one or remove the row")
    if answered and kept[-1].role != ASSISTANT:
        raise ValueError(f"ends with a turn by the {kept[-1].role}, which nothing answers: remove that turn")
    if kept[0].role == ASSISTANT:
        raise ValueError("begins with a turn by the assistant, so there is no prompt: begin with one by the user")
    if kept[-1].role == "system":
        raise ValueError("ends with a system prompt, so there is nothing to answer: add a turn by the user")
    return Dialogue(tuple(kept), where)


def _parsed(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError as problem:
        raise ValueError(f"has {_shown(cell)} instead of a list of messages") from problem


def _text(content: Any, number: int) -> str:
    """The text of a message: a string, or a list of parts of the type text."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    parts = content if isinstance(content, Sequence) else [content]
    for part in parts:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise ValueError(f"has a content of the kind {str(kind)[:40]} in message {number}, which must be a text")
    return "".join(part["text"] for part in parts)


def _shown(cell: Any) -> str:
    if cell is None or cell == "":
        return "nothing"
    if isinstance(cell, str):
        return f"the text '{cell[:40]}'"
    return f"a {type(cell).__name__}" if isinstance(cell, (Mapping, Sequence)) else str(cell)[:40]


def _broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
