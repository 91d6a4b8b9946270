"""No value of any key ends in a traceback: it works, or one sentence names the key and what is allowed.

The keys are those of every command's own config; the values are what people type, forget or break. What passes the
early look is run for real, with two narrow layers and one step.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from verbs import VERBS

from kdlab.config import conf
from kdlab.config.near import child, leaves

VALUES = {"negative": "-1", "zero": "0", "null": "null", "a word": "banana", "empty": "", "huge": "1000000000000"}
MORE = {  # options beside those that a command begins with, whose keys are tried too
    "finetune": (["model=mlp"], ["peft=lora"], ["freeze=gradual"], ["optimizer=sgd"], ["penalty=l2_sp"]),
    "distill": (["teacher=live"], ["loss=hint"], ["freeze=bottom"], ["callback=[default,early_stopping]"]),
}
SMALL = ["trainer.max_steps=1", "trainer.max_epochs=1", "datamodule.train_rows=32", "datamodule.val_rows=8"]
NEEDS = ("view", "sync")  # a terminal or a server, without which they refuse any command line
PARTS = [(verb, part, 24 if verb in MORE else 3) for verb in VERBS for part in range(24 if verb in MORE else 3)]
FURTHER = [(verb, words) for verb, choices in MORE.items() for words in choices]


@cache
def keys(verb: str, *words: str) -> list[str]:
    with initialize_config_dir(str(conf()), version_base="1.3"):
        cfg = compose(verb, list(words))
    return [key for key in leaves(cfg) if not isinstance(at(cfg, key), DictConfig) and not deep(cfg, key)]


def at(cfg, key: str):
    for name in key.split("."):
        cfg = child(cfg, name)
    return cfg


def deep(cfg, key: str) -> bool:
    """Whether the key is another key's: what the command gives it by interpolation is tried there."""
    return str(at(cfg, key)._value()).startswith("${") and key.split(".")[-1] in ("seed", "download")


def line(verb: str, tiny: dict[str, list[str]], runs: Path, key: str) -> list[str]:
    """A small command that works."""
    if verb in tiny:
        words = [word for word in tiny[verb] if not word.startswith(("trainer.max_epochs", "teacher.recipe"))]
        words += SMALL + ["logger=none"] * (not key.startswith("logger"))
        if verb == "distill":
            (teacher,) = (runs / "finetune").glob("*-*")
            words += [f"teacher.run={teacher}"]
        return words
    student = f"run={next((runs / 'distill').glob('*'))}"
    rows = next(word for word in tiny["finetune"] if word.startswith("datamodule.path=")).removeprefix("datamodule.")
    more = {"evaluate": [student, "repeats=1"], "predict": [student, rows, "file=labelled.csv", "overwrite=true"]}
    return [f"outputs={runs}", *more.get(verb, [])] + ["seconds=0.1"] * (verb in ("sync", "dashboard"))


def fault(kdlab, verb: str, words: list[str], key: str, value: str) -> str:
    """What is wrong with how a command takes a value; "" where it works or is refused well."""
    code, out, err = kdlab(verb, *words, f"{key}={value}")
    said = [one for one in err.splitlines() if one.startswith("error: ")]
    if "Traceback" in out + err:
        return err
    if code == 0:
        return ""
    if code != 2 or len(said) != 1:
        return f"exit code {code}: {err}"
    if re.search(rf"\b{re.escape(key.split('.')[-1])}\b", said[0]):
        return ""
    if verb in NEEDS and kdlab(verb, *words)[::2] == (code, err):
        return ""
    return f"is not named: {said[0]}"


def faults(kdlab, verb: str, words: list[str], key: str) -> list[str]:
    found = []
    for value in VALUES.values():
        try:
            said = fault(kdlab, verb, words, key, value)
        except Exception as problem:
            said = f"{type(problem).__name__}: {problem}"
        if said:
            found.append(f"kdlab {verb} {key}={value}: {said}")
    return found


def test_every_key_is_tried():
    for verb in VERBS:
        parts = [keys(verb)[part::count] for name, part, count in PARTS if name == verb]
        assert all(parts) and sorted(key for part in parts for key in part) == sorted(keys(verb))
    assert len(keys("distill")) > 80 and "optimizer.lr" in keys("finetune")


@pytest.mark.sampled(0, tried=6)
@pytest.mark.parametrize(("verb", "part", "count"), PARTS, ids=[f"{verb} {part}" for verb, part, _ in PARTS])
def test_no_value_ends_in_a_traceback(kdlab, tiny, base, verb, part, count, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "")
    runs = base / "outputs"
    found = [one for key in keys(verb)[part::count] for one in faults(kdlab, verb, line(verb, tiny, runs, key), key)]
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize(("verb", "choice"), FURTHER, ids=[f"{verb} {words[0]}" for verb, words in FURTHER])
def test_no_value_of_another_option_ends_in_a_traceback(kdlab, tiny, base, verb, choice):
    mlp = choice == ["model=mlp"]
    found = []
    for key in keys(verb, *choice):
        if key not in keys(verb):
            words = [word for word in line(verb, tiny, base / "outputs", key) if not (mlp and word.startswith("model"))]
            words += [*choice, *["model.tokenizer=train:wordpiece:200"] * mlp]
            found += faults(kdlab, verb, words, key)
    assert not found, "\n".join(found)
