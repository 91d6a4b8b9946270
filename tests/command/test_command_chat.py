"""Dialogues from a file to a student, with real commands: distilled, stopped and resumed, evaluated and looked at."""

from __future__ import annotations

import json

import pytest
from bits import same
from chats import CHATML, END, byte_level, chats, written
from fork import end, start
from safetensors.torch import load_file

from kdlab.store.store import opened


@pytest.fixture
def words(tmp_path) -> list[str]:
    folder = tmp_path / "tokenizer"
    byte_level(CHATML, END).save_pretrained(folder)
    size = ["hidden_size=16", "layers=1", "heads=2", "intermediate_size=32", "dropout=0.0", f"tokenizer={folder}"]
    found = ["task=causal_lm", "metric=[causal_lm,fidelity]", "datamodule=chat", "loss=kd_top_k", "teacher.top_k=4"]
    found += [f"datamodule.path={chats(tmp_path / 'chats.jsonl')}", "datamodule.batch_size=8", "logger=none"]
    found += ["model@student=gpt_tiny", "model@teacher.model=gpt_tiny", "datamodule.max_length=99"]
    found += ["trainer.precision=32-true", "teacher.recipe=['trainer.max_epochs=1','optimizer.lr=1e-2']"]
    return found + [f"student.{word}" for word in size] + [f"teacher.model.{word}" for word in size]


@pytest.mark.slow
def test_dialogues_become_a_student_that_goes_on_after_a_kill_and_is_evaluated(kdlab, words, tmp_path):
    line = ["distill", *words, "trainer.max_epochs=3", "callback.checkpoint.every_n_steps=3"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    code, out = end(start(line, whole), whole)
    assert code == 0, out
    code, out = end(start(line, parts, kill="kdlab.module.distill.Distill.training_step", call=8), parts)
    assert code == -9, out
    code, out = end(start(line, parts), parts)
    assert code == 0, out
    same(whole, parts)

    (run,) = (whole / "outputs/distill").glob("*")
    found = json.loads((run / "metrics.json").read_text())
    assert 1 < found["test/perplexity"] < 330
    code, out, err = kdlab("evaluate", f"run={run}", "repeats=1")
    assert code == 0, out + err
    assert "perplexity" in out
    rows = [json.loads(one) for one in chats(tmp_path / "other.jsonl", 12).read_text().splitlines()]
    other = written(tmp_path / "other.jsonl", [{"talk": row["messages"]} for row in rows])
    code, _, err = kdlab("evaluate", f"run={run}", "repeats=1", "datamodule=chat", f"datamodule.path={other}")
    assert code == 2
    assert "neither a column 'messages'" in err
    more = ["datamodule=chat", f"datamodule.path={other}", "datamodule.messages_column=talk"]
    code, out, err = kdlab("evaluate", f"run={run}", "repeats=1", *more)
    assert code == 0, out + err


@pytest.mark.slow
def test_targets_of_packed_rows_are_the_same_stored_or_live(tmp_path, words):
    line = [word for word in words if not word.startswith(("loss=", "teacher.top_k"))]
    line = ["distill", *line, "datamodule.pack=true", "loss=kd", "trainer.max_epochs=1"]
    for more in (["teacher=cached", "teacher.dtype=float32"], ["teacher=live"]):
        code, out = end(start([*line, *more], tmp_path), tmp_path)
        assert code == 0, out
        assert "are packed into" in out
    (folder,) = (tmp_path / "outputs/store").glob("*/")
    found = opened(folder)
    assert found.asked is not None and len(found.arrays["logits"]) == found.asked.sum() < found.asked.size / 2
    stored, live = (load_file(path) for path in (tmp_path / "outputs/distill").glob("*/model/model.safetensors"))
    assert stored.keys() == live.keys()
    for name, value in stored.items():
        assert value.allclose(live[name], rtol=1e-4, atol=1e-5), name
