"""The work that is measured for language models: the same dialogues for all, and settings that kdlab has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import language, setting


def test_a_dialogue_keeps_the_exchanges_that_fit_and_is_left_out_where_none_does():
    short, long = [{"content": "ab"}] * 6, [{"content": "a" * 9}] * 2

    def size(messages):
        return sum(len(one["content"]) for one in messages)

    assert [len(one) for one in language.fitting([short, long, short[:3]], size, 10)] == [4, 2]


def test_steps_are_those_of_one_epoch_and_at_least_two(capsys):
    assert language.arguments(["--rows", "16", "--steps", "6"]).steps == 2
    with pytest.raises(SystemExit):
        language.arguments(["--rows", "8"])
    assert "fewer than two batches" in capsys.readouterr().err
    assert language.arguments(["--rows", "8", "--parts", "off"]).parts == ["off"]


def test_kdlab_is_asked_for_what_its_configs_have():
    words = language.words(language.arguments([]), Path("run"), Path("rows.jsonl"), Path("outputs"))
    with setting.composing():
        cfg = setting.job(*words).cfg
    assert (cfg.datamodule.max_length, list(cfg.student.layers), cfg.teacher.top_k) == (128, [0, 1, 14, 29], 64)
    assert cfg.datamodule.train_rows is None and cfg.datamodule.answers == "last"
