"""Files of dialogues: formats and columns, splits, long rows, and one sentence for each thing that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chats import CHATML, END, byte_level, chats, talk, written

from kdlab.batch import ANSWER
from kdlab.datamodule.chat import Chat
from kdlab.datamodule.chitchat import ChitChat
from kdlab.error import UserError

PAIR = {"prompt": "Hi", "completion": "Hello"}
TALK = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level(CHATML, END).save_pretrained(folder)
    return str(folder)


def data(path: Path, tokenizer: str, **given) -> Chat:
    found = Chat(path=str(path), tokenizer=tokenizer, **{"batch_size": 4, **given})
    found.setup()
    return found


def read(path: Path, **given) -> list[tuple[tuple[str, str], ...]]:
    values = Chat(path=str(path), tokenizer="none", **given).corpus().values
    return [tuple((one.role, one.content) for one in value.messages) for value in values]


def refused(path: Path, **given) -> str:
    with pytest.raises(UserError) as found:
        read(path, **given)
    return str(found.value)


def test_messages_and_pairs_in_every_kind_of_file_are_the_same(tmp_path):
    expected = [(("user", "Hi"), ("assistant", "Hello"))] * 2
    assert read(written(tmp_path / "a.jsonl", [TALK] * 2)) == expected
    assert read(written(tmp_path / "b.jsonl", [PAIR] * 2)) == expected
    (tmp_path / "c.json").write_text(json.dumps([TALK, TALK]))
    assert read(tmp_path / "c.json") == expected
    pd.DataFrame([TALK] * 2).to_parquet(tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet") == expected
    pd.DataFrame([PAIR] * 2).to_csv(tmp_path / "e.csv", index=False)
    assert read(tmp_path / "e.csv") == expected
    pd.DataFrame([{"messages": json.dumps(TALK["messages"])}] * 2).to_csv(tmp_path / "f.csv", index=False)
    assert read(tmp_path / "f.csv") == expected
    parts = {"prompt": TALK["messages"][:1], "completion": TALK["messages"][1:]}
    assert read(written(tmp_path / "g.jsonl", [parts] * 2)) == expected


def test_columns_keys_and_roles_have_other_names(tmp_path):
    rows = [{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}]
    names = {"messages_column": "conversations", "role_key": "from", "content_key": "value"}
    path = written(tmp_path / "a.jsonl", rows * 2)
    assert read(path, **names, roles={"human": "user", "gpt": "assistant"})[:1] == [
        (("user", "Hi"), ("assistant", "Hello"))
    ]
    path = written(tmp_path / "b.jsonl", [{"question": "Hi", "answer": "Hello"}])
    assert read(path, prompt_column="question", completion_column="answer") == [
        (("user", "Hi"), ("assistant", "Hello"))
    ]


@pytest.mark.parametrize(
    ("rows", "given", "words"),
    [
        ([PAIR, {"prompt": "Hi", "completion": ""}], {}, "line 2 has an empty message 2, by the assistant"),
        ([PAIR, {"prompt": None, "completion": "Hello"}], {}, "line 2 has nothing instead of a text"),
        ([TALK, {"messages": TALK["messages"][:1]}], {}, "line 2 has no turn by the assistant"),
        ([TALK, {"messages": [*TALK["messages"], TALK["messages"][0]]}], {}, "line 2 ends with a turn by the user"),
        ([TALK, {"messages": [{"role": "bot", "content": "Hi"}]}], {}, "line 2 has the unknown role 'bot'"),
        ([{"text": "Hi"}], {}, "has neither a column 'messages' nor 'prompt' and 'completion': it has text"),
        ([{"prompt": "Hi", "response": "Hello"}], {}, "completion_column='completion' is not in"),
        ([TALK], {"messages_column": "talk"}, "neither a column 'talk'"),
        ([TALK], {"messages_column": None}, "prompt_column='prompt' is not in"),
        ([TALK], {"roles": {"human": "person"}}, "must give each role of the file one of system, user"),
        ([TALK], {"long": "shorten"}, "datamodule.long is 'shorten', and must be cut, windows, drop or refuse"),
        ([TALK], {"answers": "first"}, "datamodule.answers is 'first', and must be all or last"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, rows, given, words):
    assert words in refused(written(tmp_path / "a.jsonl", rows), **given)


def test_columns_that_are_not_read_are_named(tmp_path):
    corpus = Chat(path=str(written(tmp_path / "a.jsonl", [TALK | PAIR])), tokenizer="none").corpus()
    assert "'prompt' and 'completion' are not read" in corpus.notices[0]


def test_splits_never_share_a_dialogue(tmp_path, tokenizer):
    rows = [json.loads(line) for line in chats(tmp_path / "a.jsonl", 40).read_text().splitlines()] * 2
    found = data(written(tmp_path / "b.jsonl", rows), tokenizer)
    keys = {name: {found.keys[row] for row in split} for name, split in found.splits.items()}
    assert all(keys.values())
    assert not keys["train"] & keys["val"] and not keys["train"] & keys["test"] and not keys["val"] & keys["test"]
    again = data(tmp_path / "b.jsonl", tokenizer, system="Be kind", answers="last")
    assert all(np.array_equal(found.splits[name], again.splits[name]) for name in keys), "whatever is made of them"
    assert found.fingerprint != again.fingerprint
    assert found.test_set == again.test_set


def test_given_splits_that_share_a_dialogue_are_refused(tmp_path, tokenizer):
    rows = [{"messages": json.loads(line)["messages"], "split": "train"} for line in chats(tmp_path / "a", 9).open()]
    rows += [rows[0] | {"split": "test"}, *({**PAIR, "messages": TALK["messages"], "split": "val"},)]
    path = written(tmp_path / "b.jsonl", rows)
    with pytest.raises(UserError, match="1 train row has a text of the test split too"):
        data(path, tokenizer, split_column="split")
    assert len(data(path, tokenizer, split_column="split", overlap="drop").splits["train"]) == 8


def test_a_batch_has_answers_and_a_column_its_values(tmp_path, tokenizer):
    found = data(chats(tmp_path / "a.jsonl"), tokenizer)
    batch = next(iter(found.train_dataloader()))
    assert batch.target[ANSWER].any(1).all() and not batch.target[ANSWER][:, 0].any()
    assert batch.size["tokens"] == int(batch.target[ANSWER].sum())
    assert found.column("mood") == [row % 3 for row in range(60)]
    assert not found.label_counts and found.processor.padding == found.tokenizer.eos_token_id


def test_a_system_prompt_is_added_where_there_is_none(tmp_path, tokenizer):
    rows = [{"messages": [{"role": "system", "content": "Rude"}, *TALK["messages"]]}]
    rows += [json.loads(line) for line in chats(tmp_path / "a.jsonl", 30).open()]
    found = data(written(tmp_path / "b.jsonl", rows), tokenizer, system="Kind")
    texts = found.tokenizer.batch_decode([one.tokens for one in found.processor.rows(found.values)])
    assert ["Kind" in text for text in texts] == [False] + [True] * 30
    assert "Rude" in texts[0]


@pytest.mark.parametrize("long", ["cut", "drop", "refuse"])
def test_long_rows_are_counted(tmp_path, tokenizer, long):
    rows = [{"messages": [{"role": m.role, "content": m.content} for m in talk(1, n).messages]} for n in range(40)]
    rows += [{"messages": [{"role": m.role, "content": m.content} for m in talk(8, 40).messages]}] * 2
    path = written(tmp_path / "a.jsonl", rows)
    whole = data(path, tokenizer, max_length=999).encoded_rows().rows.lengths
    length = int(whole[:40].max())
    if long == "refuse":
        with pytest.raises(UserError, match=rf"2 rows are longer .*{whole[40]:,} tokens, first: line 41\): raise"):
            data(path, tokenizer, max_length=length, long=long)
        return
    found = data(path, tokenizer, max_length=length, long=long)
    (notice,) = [one for one in found.notices if "longer" in one]
    left = found.encoded_rows().rows.lengths
    gone = int(whole.sum() - left.sum()) if long == "cut" else int(whole[40:].sum())
    assert f"2 rows are longer than datamodule.max_length={length}" in notice
    assert f"{gone:,} of {whole.sum():,} tokens" in notice
    used = np.isin([40, 41], found.used)
    assert used.all() if long == "cut" else not used.any()
    assert left.max() <= length


def test_where_all_rows_of_a_split_are_too_long(tmp_path, tokenizer):
    with pytest.raises(UserError, match="no train row is left: raise"):
        data(chats(tmp_path / "a.jsonl"), tokenizer, max_length=3, long="drop")


def test_conversations_of_two_people(tmp_path):
    def turn(sender: str, *texts: str) -> list[dict[str, str]]:
        return [{"text": text, "sender": sender, "timestamp": ""} for text in texts]

    path = tmp_path / "dataset.json"
    found = {"1": {"messages": [turn("a", "Hi"), turn("b", "Hello", " "), turn("b", "You?"), turn("a", "Bye")]}}
    path.write_text(json.dumps(found | {"2": {"messages": [turn("a", "Anybody?")]}}))
    corpus = ChitChat(path=str(path), tokenizer="none").corpus()
    (value,) = corpus.values
    assert [(one.role, one.content) for one in value.messages] == [("user", "Hi"), ("assistant", "Hello\nYou?")]
    assert corpus.notices == ["1 conversation without an answer left out"]
    path.write_text("[]")
    with pytest.raises(UserError, match="not a JSON object of conversations"):
        ChitChat(path=str(path), tokenizer="none").corpus()


def test_a_file_is_read_before_anything_is_built(kdlab, tmp_path):
    path = written(tmp_path / "a.jsonl", [TALK, {"messages": TALK["messages"][:1]}])
    for words in (["distill"], ["doctor", "distill"]):
        code, _, err = kdlab(*words, "task=causal_lm", "datamodule=chat", f"datamodule.path={path}", "logger=none")
        assert code == 2
        assert "line 2 has no turn by the assistant" in err
        assert not Path("outputs").exists()
