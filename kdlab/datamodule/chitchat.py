"""Conversations of two students, turn by turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from kdlab.datamodule.chat_data import ChatData
from kdlab.datamodule.corpus import Corpus, counted
from kdlab.datamodule.dialogue import ASSISTANT, Message, dialogue
from kdlab.error import UserError
from kdlab.fetch import local

SOURCE = (
    "package:chitchat-dataset==0.9.0/chitchat_dataset/dataset.json"
    "?sha256=7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e"
)


@dataclass(kw_only=True, eq=False, repr=False)
class ChitChat(ChatData):
    """4,018 conversations of two people; who speaks first is the user, and the other one answers as the assistant.

    Conversations without an answer are left out, and so is what the first speaker writes after the last answer.
    Messages that one person sent one after the other are the lines of a turn. The language is coarse at times.

    Args:
        path: a JSON object of conversations, each with ``messages``: turns, which are lists of texts with senders.

    Source: the Chit-Chat Challenge of the Perception, Control and Cognition lab of Brigham Young University.
    """

    path: str = SOURCE

    def corpus(self) -> Corpus:
        text = Path(local(self.path, self.download)).read_text("utf-8")
        try:
            found = {name: _messages(one["messages"]) for name, one in json.loads(text).items()}
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise UserError(f"'{self.path}' is not a JSON object of conversations with messages") from problem
        rows = [dialogue(messages, f"chitchat: {name}") for name, messages in found.items() if messages]
        alone = len(found) - len(rows)
        notices = [f"{counted(alone, 'conversation', 'conversations')} without an answer left out"] if alone else []
        return Corpus("chitchat", list[Any](rows), [None] * len(rows), [], notices=notices)


def _messages(turns: Sequence[Sequence[dict[str, str]]]) -> list[Message]:
    """The turns of a conversation with roles, up to the last answer; empty where there is none.

    Example:
        >>> turns = [[{"text": "Hi", "sender": "a"}], [{"text": "Hello", "sender": "b"}, {"text": "!", "sender": "b"}]]
        >>> [one.content for one in _messages(turns)]
        ['Hi', 'Hello\\n!']
    """
    lines = [(line["sender"], line["text"].strip()) for turn in turns for line in turn if line["text"].strip()]
    spoken = [(sender, "\n".join(text for _, text in group)) for sender, group in groupby(lines, lambda one: one[0])]
    spoken = spoken[: len(spoken) // 2 * 2]
    return [Message(ASSISTANT if number % 2 else "user", text) for number, (_, text) in enumerate(spoken)]
