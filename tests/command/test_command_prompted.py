"""Prompted language models from the command line: measured as they are, and as teachers of small classifiers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SHAPE = ("hidden_size=16", "layers=2", "heads=2", "intermediate_size=32", "tokenizer=train:wordpiece:200")


def language(place: str) -> list[str]:
    """The overrides that put a tiny language model of random weights into a prompted one at ``place``."""
    return [f"model@{place}.inner=gpt_tiny", *[f"{place}.inner.{word}" for word in SHAPE]]


@pytest.fixture
def data(tiny) -> list[str]:
    return [word for word in tiny["finetune"] if word.startswith("datamodule")] + ["logger=none"]


@pytest.mark.slow
def test_zero_and_few_shot_accuracy_is_one_command(kdlab, data):
    words = ["model=prompted", *language("model"), "trainer.max_steps=0", "metric=[classification]"]
    code, out, err = kdlab("finetune", "-m", *data, *words, "model.shots=0,2", "model.calibration=[plot]")
    assert code == 0, out + err
    runs = sorted(Path("outputs/finetune").glob("*/metrics.json"))
    assert len(runs) == 2
    for run in runs:
        metrics = json.loads(run.read_text())
        assert 0 <= metrics["test/accuracy"] <= 1 and {"test/f1_macro", "test/ece"} <= set(metrics)
    shape = json.loads((runs[0].parent / "model/config.json").read_text())
    assert shape["words"] and shape["between"]
    code, out, err = kdlab("evaluate", f"run={runs[0].parent.name}", "repeats=1")
    assert code == 0, out + err


@pytest.mark.slow
def test_it_teaches_without_any_label(kdlab, tiny, data):
    words = [word for word in tiny["distill"] if "teacher" not in word]
    words += ["teacher=prompted", *language("teacher.model"), "metric=[classification,fidelity]", "logger=none"]
    code, out, err = kdlab("distill", *words, "loss.alpha=1", "datamodule.per_class=0")
    assert code == 0, out + err
    (run,) = Path("outputs/distill").glob("*/metrics.json")
    metrics = json.loads(run.read_text())
    assert metrics["test/fidelity/agreement"] > 0.5 and "teacher/test/accuracy" in metrics, "stored and taught"
    code, _, err = kdlab("distill", *words, "loss.alpha=1", "datamodule.per_class=0", "teacher.model.shots=1")
    assert code == 2 and "shots=1 takes as many examples of each label" in err, err
    code, out, err = kdlab("distill", *words, "loss.alpha=1", "teacher.model.shots=2")
    assert code == 0, out + err
    assert len(list(Path("outputs/finetune").glob("*/done.json"))) == 2


@pytest.mark.sampled(2, tried="all")
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["model.template=no"], "must have {text} once and after it {label} once"),
        (["model.words={negative: bad}"], "words has one for negative, but the labels are negative, positive"),
        (["model.shots=500"], "takes as many examples of each label from the training rows"),
        (["model.shots=20"], "set fewer shots"),
        (["model@model.inner=bert_tiny", f"model.inner.{SHAPE[-1]}"], "choose a causal language model"),
        (["task=causal_lm", "metric=[causal_lm]"], "makes a classifier"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(kdlab, data, more, expected):
    inside = language("model") if "bert_tiny" not in more[0] else []
    code, _, err = kdlab("finetune", *data, "model=prompted", *inside, "trainer.max_steps=0", *more)
    assert code == 2 and expected in err and err.count("error: ") == 1 and "Traceback" not in err, err
