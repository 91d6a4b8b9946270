"""Rules of generated texts from the command line: sweeps, encoder-decoder models, and what the doctor tries."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from shape import TINY
from undeclared import undeclared

SIZES = ("tokenizer=train:char", "hidden_size=32", "intermediate_size=64", "layers=1", "heads=2")


@pytest.fixture
def pairs(tmp_path) -> list[str]:
    """A distillation between tiny encoder-decoders, of words and the same words backwards."""
    draw = random.Random(0)
    words = sorted({"".join(draw.choices("abcdefgh", k=draw.randint(3, 7))) for _ in range(120)})
    lines = [f"{word},{' '.join(reversed(word.upper()))}" for word in words]
    (tmp_path / "pairs.csv").write_text("\n".join(["source,target", *lines]))
    found = ["task=seq2seq", "metric=[causal_lm,fidelity]", "datamodule=pairs", "datamodule.path=pairs.csv"]
    found += ["datamodule.target_tokenizer=train:symbol", "datamodule.batch_size=16", "trainer.max_epochs=1"]
    found += [
        "logger=none",
        "trainer.precision=32-true",
        "model@student=seq2seq_tiny",
        "model@teacher.model=seq2seq_tiny",
    ]
    return [*found, *(f"{role}.{size}" for role in ("student", "teacher.model") for size in SIZES)]


RULES = {
    "sequence_kd": ("loss=kd", "module.writer.max_new_tokens=8"),
    "on_policy": ("teacher=live", "loss=kd", "module.samples.max_new_tokens=8", "module.lmbda=1.0"),
    "minillm": ("teacher=live", "loss=reverse_kl", "module.samples.max_new_tokens=8"),
    "distillm2": ("teacher=live", "loss=skew_kl", "module.samples.max_new_tokens=8", "module.writer.max_new_tokens=8"),
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_encoder_decoders_learn_by_each_rule(kdlab, pairs, rule):
    code, out, err = kdlab("distill", *pairs, f"module={rule}", *RULES[rule])
    assert code == 0, out + err
    (run,) = Path("outputs/distill").glob("*/done.json")
    assert undeclared(run.parent) == set()
    assert json.loads((run.parent / "metrics.json").read_text())["test/perplexity"] > 1


@pytest.fixture
def texts(tmp_path, reviews) -> list[str]:
    """A distillation between tiny language models."""
    lines = [line.rsplit(",", 1)[0] for line in reviews.read_text().splitlines()]
    (tmp_path / "texts.csv").write_text("\n".join(lines))
    found = ["task=causal_lm", "metric=[causal_lm,fidelity]", "datamodule=table", "datamodule.path=texts.csv"]
    found += ["datamodule.label_column=null", "datamodule.batch_size=16", "trainer.max_epochs=1", "logger=none"]
    found += ["trainer.precision=32-true", "model@student=gpt_tiny", "model@teacher.model=gpt_tiny"]
    return [*found, *(f"{role}.{size}" for role in ("student", "teacher.model") for size in TINY)]


@pytest.mark.slow
def test_a_sweep_over_the_share_and_both_temperatures(kdlab, texts):
    more = ["module=on_policy", "teacher=live", "loss=jsd", "module.samples.max_new_tokens=4", "module.lmbda=0,1"]
    code, out, err = kdlab("distill", "-m", *texts, *more, "loss.temperature=1,2", "module.samples.temperature=0.5,1")
    assert code == 0, out + err
    assert len(list(Path("outputs/distill").glob("*/done.json"))) == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [("module=sequence_kd", "loss=kd_top_k", "teacher.top_k=8"), ("module=on_policy", "teacher=live", "loss=kd")],
)
def test_the_doctor_tries_them(kdlab, texts, more):
    limits = (
        ("module.writer.max_new_tokens=4",) if "module=sequence_kd" in more else ("module.samples.max_new_tokens=4",)
    )
    code, out, err = kdlab("doctor", "distill", *texts, *more, *limits)
    assert code == 0, out + err


@pytest.mark.slow
def test_stored_outputs_are_refused_before_anything_is_trained(kdlab, texts):
    code, out, err = kdlab("distill", *texts, "module=on_policy", "teacher=cached", "loss=kd")
    assert code == 2 and "set teacher=live" in " ".join(err.split()), out + err
    assert not list(Path("outputs").glob("finetune/*"))


@pytest.mark.slow
def test_the_doctor_names_what_a_rule_of_texts_cannot_answer(kdlab, texts):
    for more, sentence in (
        ("+datamodule.pack=true", "set datamodule.pack=false"),
        ("module.samples.max_new_tokens=1000", "has left after the longest training prompt"),
    ):
        code, out, err = kdlab("doctor", "distill", *texts, "module=on_policy", "teacher=live", "loss=kd", more)
        assert code != 0 and sentence in " ".join((out + err).split()) and "Traceback" not in err, out + err
