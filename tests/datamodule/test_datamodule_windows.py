"""Long dialogues as windows of turns: every answer is in one of them, whole, and none is longer than a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chats import CHATML, END, LLAMA2, byte_level, chats, talk
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.batch import ANSWER
from kdlab.datamodule import windows
from kdlab.datamodule.chat import Chat
from kdlab.datamodule.dialogue import Dialogue, Message
from kdlab.datamodule.processor.chat import Chat as Processor


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level(CHATML, END).save_pretrained(folder)
    return str(folder)


def data(path: Path, tokenizer: str, **given) -> Chat:
    found = Chat(path=str(path), tokenizer=tokenizer, **{"batch_size": 4, "long": "windows", **given})
    found.setup()
    return found


@given(
    sizes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=4),
    head=st.integers(0, 3),
    odd=st.integers(0, 4),
    most=st.integers(1, 25),
)
def test_windows_hold_every_exchange_once_and_are_as_long_as_fits(sizes, head, odd, most):
    """``odd``: tokens more of a dialogue of several exchanges, as a template may write."""
    talks = [Dialogue(tuple(Message(role, str(n)) for n in one for role in ("user", "assistant"))) for one in sizes]

    def tokens(one: Dialogue) -> int:
        return head + sum(int(message.content) for message in one.messages[::2]) + odd * (len(one.messages) > 2)

    found = windows.windows(talks, lambda some: [tokens(one) for one in some], most)
    for one, spans in zip(talks, found, strict=True):
        parts = [one.part(*span) for span in spans]
        assert tuple(message for part in parts for message in part.messages) == one.messages
        assert all(tokens(part) <= most or len(part.messages) == 2 for part in parts)
        if not odd:
            together = (one.part(spans[n][0], spans[n + 1][0] + 1) for n in range(len(spans) - 1))
            assert all(tokens(two) > most for two in together), "the next exchange would have fitted"


@settings(max_examples=10)
@given(seed=st.integers(0, 99), template=st.sampled_from([CHATML, "smollm", "thinking", "endless", LLAMA2]))
def test_the_answers_of_the_windows_are_those_of_the_dialogue(seed, template):
    processor = Processor(byte_level(template), 120)
    whole = talk(7, seed, system=None if template == LLAMA2 else "Be kind")
    (spans,) = windows.windows([whole], processor.sizes, 120)
    rows = list(processor.rows([whole.part(*span) for span in spans]))
    assert len(rows) > 1 and not any(row.lost for row in rows)
    texts = "".join(processor.decode([[t for t, a in zip(r.tokens, r.answer, strict=True) if a] for r in rows]))
    (every,) = Processor(byte_level(template), 9999).rows([whole])
    if template != "thinking":  # which puts an empty thought before the last answer of a row
        text = "".join(processor.decode([[t for t, a in zip(every.tokens, every.answer, strict=True) if a]]))
        assert texts.replace("\n", "") == text.replace("\n", "")


@pytest.mark.parametrize("pack", [False, True])
def test_windows_of_a_dialogue_are_in_one_split_and_lose_nothing(tmp_path, tokenizer, pack):
    path = chats(tmp_path / "a.jsonl", 30, exchanges=6)
    whole, found = data(path, tokenizer, max_length=999), data(path, tokenizer, max_length=90, pack=pack)
    assert whole.origin is None and found.origin is not None and len(found.values) > 30
    assert any("longer than datamodule.max_length=90 and made into" in one for one in found.notices)
    rows, names = found.encoded_rows().rows, ("train", "val", "test")
    assert rows.lengths.max() <= 90 and not found.encoded_rows().rows.unpacked.lost.any()
    assert rows.predictions.sum() == whole.encoded_rows().rows.predictions.sum()
    contents = {name: set(found.contents(name)) for name in names}
    assert contents == {name: set(whole.contents(name)) for name in names}
    batch = next(iter(found.train_dataloader()))
    assert batch.size["tokens"] == int(batch.target[ANSWER].sum())
    if not pack:
        assert found.column("mood") == [row % 3 for row in found.origin]
        again = data(path, tokenizer, max_length=90)
        assert again.fingerprint == found.fingerprint and np.array_equal(again.origin, found.origin)


def test_an_exchange_that_is_longer_than_a_row_is_cut_and_counted(tmp_path, tokenizer):
    found = data(chats(tmp_path / "a.jsonl", 30, exchanges=3), tokenizer, max_length=20)
    (notice,) = [one for one in found.notices if "and cut" in one]
    assert "tokens and the end of" in notice and "windows" not in notice
    cut = data(tmp_path / "a.jsonl", tokenizer, max_length=20, long="cut")
    (notice,) = [one for one in cut.notices if "and cut" in one]
    assert "are lost; datamodule.long=windows keeps all answers" in notice and " answers and " in notice
    last = data(tmp_path / "a.jsonl", tokenizer, max_length=20, answers="last")
    assert last.origin is None, "only the last window would count"
