"""`kdlab predict` of models that write: the texts that metric=generation scores, beside the columns of any file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from chats import CHATML, END, byte_level, chats, talk, written

from kdlab.artifact import work
from kdlab.command.predict import load
from kdlab.datamodule import pairs, table
from kdlab.datamodule.chat import Chat
from kdlab.error import UserError
from kdlab.generation import Sampling
from kdlab.metric.writing import write
from kdlab.model.gpt import gpt
from kdlab.model.save import save
from kdlab.model.seq2seq import seq2seq
from kdlab.task.causal_lm import CausalLM
from kdlab.task.seq2seq import Seq2Seq


def saved(folder: Path, template: str | None) -> Path:
    """A language model with random weights, which writes other texts after other prompts."""
    tokenizer = byte_level(template, END)
    torch.manual_seed(3)
    model = gpt(16, 2, 2, 32, 0.0, 256, tokenizer=tokenizer, labels=[], task="causal_lm")
    for parameter in model.parameters():
        parameter.data *= 3
    return save(model, tokenizer, folder)


@pytest.fixture(scope="module")
def talker(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("talker") / "model", CHATML)


@pytest.fixture(scope="module")
def writer(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("writer") / "model", None)


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def measured(task, data, model, count: int) -> list[str]:
    """What metric=generation scores of all rows."""
    data.setup()
    task.check_data(data)
    return write(task, data, model, range(count), Sampling(8)).answers


def test_dialogues_are_answered_as_the_metric_does(talker, tmp_path, kdlab):
    path = chats(tmp_path / "chats.jsonl", 40)
    data = Chat(path=str(path), tokenizer=str(talker), max_length=248, batch_size=8)
    expected = measured(CausalLM(), data, load(str(talker)).model, 40)
    code, out, err = kdlab("predict", f"run={talker}", f"path={path}", "file=out.jsonl", "max_new_tokens=8")
    assert (code, out) == (0, ""), err
    found = read(Path("out.jsonl"))
    assert [row["generated"].strip() for row in found] == expected
    assert len(set(expected)) > 10
    assert [{name: row[name] for name in ("messages", "mood")} for row in found] == read(path)
    assert "predicted 40 rows in" in err and "ended before max_new_tokens=8 -> out.jsonl" in err
    # without the answer that each ends with, which was not read
    rows = [{"messages": row["messages"][:-1]} for row in read(path)]
    code, _, err = kdlab(
        "predict", f"run={talker}", f"path={written(tmp_path / 'open.jsonl', rows)}", "file=b.jsonl", "max_new_tokens=8"
    )
    assert code == 0, err
    assert [row["generated"] for row in read(Path("b.jsonl"))] == [row["generated"] for row in found]


def test_a_text_is_a_turn_of_the_user_to_a_model_of_dialogues(talker, tmp_path, kdlab):
    rows = [{"prompt": talk(1, n).messages[0].content, "messages": None} for n in range(5)]
    rows = [row | {"messages": [{"role": "user", "content": row["prompt"]}]} for row in rows]
    path = written(tmp_path / "a.jsonl", rows)
    words = ["predict", f"run={talker}", "max_new_tokens=6"]
    for name, more in {"messages": [], "prompt": ["text_column=prompt"], "made": ["text_column='{prompt}'"]}.items():
        code, _, err = kdlab(*words, f"path={path}", f"file={name}.jsonl", *more)
        assert code == 0, err
    first, *others = (
        [row["generated"] for row in read(Path(f"{name}.jsonl"))] for name in ("messages", "prompt", "made")
    )
    assert all(one == first for one in others)
    assert load(str(talker)).write([row["prompt"] for row in rows], max_new_tokens=6) == first


def test_texts_go_on_as_the_metric_lets_them(writer, tmp_path, kdlab):
    draw = random.Random(0)
    texts = [" ".join(draw.choices(["film", "story", "actors", "good", "great"], k=9)) for _ in range(40)]
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(["text", *(f'"{text}"' for text in texts)]))
    data = table.Table(path=str(path), tokenizer=str(writer), max_length=248, batch_size=8, label_column=None)
    model = load(str(writer)).model
    task = CausalLM(prompt=4)
    expected = measured(task, data, model, 40)
    prompts = [task.prompt_texts(data.encoded_rows().batch(np.array([row])), data)[0] for row in range(40)]
    path = written(tmp_path / "prompts.jsonl", [{"n": n, "text": text} for n, text in enumerate(prompts)])
    code, _, err = kdlab("predict", f"run={writer}", f"path={path}", "file=out.jsonl", "max_new_tokens=8")
    assert code == 0, err
    found = [row["generated"].strip() for row in read(Path("out.jsonl"))]
    ids = [[*data.encoded_rows().rows.row(row)[:4]] for row in range(40)]
    same = [row for row in range(40) if data.tokenizer(prompts[row])["input_ids"] == ids[row]]  # none is cut in a word
    assert len(same) > 15 and len(set(expected)) > 5
    assert [found[row] for row in same] == [expected[row] for row in same]


def test_sources_get_targets_as_in_the_metric(tmp_path, kdlab):
    names = ["".join("abcdefgh"[int(digit)] for digit in f"{number:04o}") for number in range(60)]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["source,target", *(f"{name},{' '.join(reversed(name))}" for name in names)]))
    data = pairs.Pairs(
        path=str(path), tokenizer="train:char", target_tokenizer="train:symbol", max_length=32, batch_size=8
    )
    data.setup()
    torch.manual_seed(2)
    arguments = data.processor.arguments()
    model = seq2seq(16, 1, 2, 2, 32, 0.0, 32, **arguments, labels=[], task="seq2seq")
    for parameter in model.parameters():
        parameter.data *= 20
    folder = save(model, data.processor, tmp_path / "model")
    expected = measured(Seq2Seq(), data, load(str(folder)).model, 60)
    code, _, err = kdlab(
        "predict", f"run={folder}", f"path={path}", "text_column=source", "file=out.jsonl", "max_new_tokens=8"
    )
    assert code == 0, err
    assert [row["generated"].strip() for row in read(Path("out.jsonl"))] == expected
    assert len(set(expected)) > 5


@pytest.mark.slow
def test_it_goes_on_where_it_was_interrupted_and_draws_the_same(writer, tmp_path, kdlab, monkeypatch):
    monkeypatch.setattr("kdlab.metric.writing.ROWS", 8)
    path = written(tmp_path / "a.jsonl", [{"text": talk(1, n).messages[0].content} for n in range(20)])
    words = ["predict", f"run={writer}", f"path={path}", "max_new_tokens=4", "temperature=1", "top_k=20"]
    assert kdlab(*words, "file=whole.jsonl")[0] == 0
    real = work.Answering.added

    def stopped(self, values, first, meter):
        if first == 16:
            raise KeyboardInterrupt
        return real(self, values, first, meter)

    monkeypatch.setattr(work.Answering, "added", stopped)
    assert kdlab(*words, "file=b.jsonl")[0] == 130
    monkeypatch.setattr(work.Answering, "added", real)
    code, _, err = kdlab(*words, "file=b.jsonl")
    assert code == 0 and "going on after row 16" in err, err
    assert Path("b.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert kdlab(*words, "file=c.jsonl", "seed=1")[0] == 0
    assert Path("c.jsonl").read_bytes() != Path("whole.jsonl").read_bytes()


def test_rows_without_a_prompt_and_long_ones_are_counted(writer, tmp_path, kdlab):
    rows = [{"text": "the film"}, {"text": " "}, {"text": "the film is a story " * 40}]
    path = written(tmp_path / "a.jsonl", rows)
    code, _, err = kdlab(
        "predict", f"run={writer}", f"path={path}", "file=out.jsonl", "max_new_tokens=3", "max_length=20"
    )
    assert code == 0, err
    found = read(Path("out.jsonl"))
    assert [row["generated"] is None for row in found] == [False, True, False] and found[1]["ended"] is None
    assert "rows without a prompt, which nothing answers: 1" in err
    assert "prompts of more than 20 tokens, of which a part was not read: 1" in err


@pytest.mark.sampled(3, tried="all")
def test_what_cannot_be_is_refused_in_a_sentence(talker, writer, tmp_path, kdlab):
    def refused(run: Path, rows: list[dict], *more: str) -> str:
        path = written(tmp_path / "a.jsonl", rows)
        code, out, err = kdlab("predict", f"run={run}", f"path={path}", "file=out.jsonl", *more)
        assert code == 2 and "Traceback" not in err and not Path("out.jsonl").exists(), out + err
        return " ".join(err.split())

    one = [{"text": "the film"}]
    assert "max_new_tokens=256 is more than the positions" in refused(writer, one, "max_new_tokens=256")
    assert "top_p is 2, but must be a number above 0 and at most 1" in refused(writer, one, "top_p=2")
    assert "temperature is 'warm', but must be a number from 0 up" in refused(writer, one, "temperature=warm")
    assert "has a column named 'generated', which predict writes" in refused(writer, [{"text": "a", "generated": "b"}])
    assert "line 2 has an empty message 1" in refused(
        talker, [{"messages": [{"role": "user", "content": "a"}]}, {"messages": [{"role": "user", "content": ""}]}]
    )


def test_sampling_is_refused_for_a_classifier(base, reviews, kdlab, monkeypatch):
    monkeypatch.chdir(base)
    run = next(path.parent.name for path in Path("outputs/distill").glob("*/done.json"))
    code, _, err = kdlab("predict", f"run={run}", f"path={reviews}", "temperature=1")
    assert code == 2 and "temperature is about texts that a model writes, but this run gives labels" in err, err


def test_a_value_that_no_generation_takes_is_refused_from_python(writer):
    with pytest.raises(UserError, match="top_k of the sampling is -1"):
        load(str(writer)).write(["a"], top_k=-1)
