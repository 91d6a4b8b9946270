"""Processes that ask for the same things at the same time."""

from __future__ import annotations

import json

import pytest
from fork import end, start


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("differ", [False, True], ids=["the same run", "runs of the same teacher"])
def test_what_several_processes_ask_for_is_done_once(tmp_path, tiny, differ):
    words = [["distill", *tiny["distill"], "logger=none", f"seed={number if differ else 0}"] for number in range(3)]
    ended = [end(process, tmp_path) for process in [start(each, tmp_path) for each in words]]
    assert [code for code, _ in ended] == [0, 0, 0], ended
    outputs = tmp_path / "outputs"
    assert len(list(outputs.glob("finetune/*/done.json"))) == 1
    assert len(list(outputs.glob("store/*/meta.json"))) == 1
    assert not list(outputs.glob("store/.*.part"))
    runs = [path.parent for path in outputs.glob("distill/*/done.json")]
    assert len(runs) == (3 if differ else 1)
    said = "".join(said for _, said in ended)
    assert "waiting for run reviews-bert_tiny" in said
    if not differ:
        assert said.count("already finished") == 2, "two found it done by the third"
    (teacher,) = outputs.glob("finetune/*")
    assert (teacher / "run.log").read_text().count("trainable: block embedding") == 1
    pids = {json.loads((run / "environment.json").read_text())["pid"] for run in [*runs, teacher]}
    assert len(pids) == len(runs), "the teacher was trained by one of those that asked for it"
