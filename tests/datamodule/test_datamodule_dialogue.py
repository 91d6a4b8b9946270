"""Dialogues from cells: what is read, and one sentence for each thing that is wrong."""

from __future__ import annotations

import pytest

from kdlab.datamodule.dialogue import Dialogue, Format, Message, dialogue

HI, HELLO = Message("user", "Hi"), Message("assistant", "Hello")


def turn(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    "cell",
    [
        [turn("user", "Hi"), turn("assistant", "Hello")],
        '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]',
        [turn("user", [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]), turn("assistant", "Hello")],
        [turn("user", "Hi") | {"name": "Ann"}, turn("assistant", "Hello") | {"tool_calls": None}],
    ],
)
def test_messages_are_a_list_or_json(cell):
    assert Format().messages(cell) == [HI, HELLO]


def test_other_names_of_keys_and_roles():
    cell = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    assert Format("from", "value", {"human": "user", "gpt": "assistant"}).messages(cell) == [HI, HELLO]
    with pytest.raises(ValueError, match="role_key=from"):
        Format().messages(cell)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (None, "nothing instead of a list of messages"),
        ("Hi", "the text 'Hi' instead"),
        ([], "instead of a list"),
        ({"role": "user"}, "a dict instead"),
        (["Hi"], "no role and content in message 1"),
        ([turn("bot", "Hi")], "unknown role 'bot' in message 1: known are system, user"),
        ([turn("user", [{"type": "image", "url": "x"}])], "content of the kind image in message 1"),
        ([turn("user", 3)], "content of the kind int"),
        ([turn("assistant", "") | {"tool_calls": [{}]}], "has tool_calls in message 1"),
    ],
)
def test_what_is_no_message(cell, words):
    with pytest.raises(ValueError, match=words):
        Format().messages(cell)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([HI], "no turn by the assistant"),
        ([HI, HELLO, HI], "ends with a turn by the user"),
        ([HELLO], "begins with a turn by the assistant"),
        ([HI, Message("assistant", " ")], "empty message 2, by the assistant"),
        ([HI, HELLO, Message("system", "Be kind"), HI, HELLO], "system prompt in message 3"),
        ([HI, Message("assistant", "\ud800")], "half a character"),
        ([Message("system", "")], "no turn by the user"),
    ],
)
def test_what_cannot_be_learned_from(messages, words):
    with pytest.raises(ValueError, match=words):
        dialogue(messages, "")


def test_an_empty_system_prompt_is_none():
    found = dialogue([Message("system", ""), HI, HELLO], "")
    assert found.messages == (HI, HELLO)
    assert found.with_system("Be kind").messages[0] == Message("system", "Be kind")
    assert found.with_system("Be kind").with_system("Be rude") == found.with_system("Be kind")


def test_the_identity_of_a_row_is_its_messages():
    assert Dialogue((HI, HELLO), "a") == Dialogue((HI, HELLO), "b")
    assert Dialogue((HI, HELLO)).key != Dialogue((Message("user", "Hi Hello"),)).key


@pytest.mark.parametrize("exchanges", [0, 1, 2])
def test_the_oldest_exchanges_go_and_the_system_prompt_stays(exchanges):
    system = Message("system", "Be kind")
    found = Dialogue((system, HI, HELLO, HI, HELLO, HI, HELLO)).without_oldest(exchanges)
    assert found.messages == (system, *(HI, HELLO) * (3 - exchanges))
