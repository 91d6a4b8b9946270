"""No value of any key ends in a traceback: it works, or one sentence names the key and what is allowed.

The keys are those of every command's own config; the values are what people type, forget or break.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from kdlab.__main__ import VERBS, conf
from kdlab.command.near import child, leaves

VALUES = {"negative": "-1", "null": "null", "a word": "banana", "empty": "", "huge": "1000000000000"}
MORE = {  # options beside those that a command begins with, whose keys are tried too
    "finetune": (["model=mlp"], ["peft=lora"], ["freeze=gradual"], ["optimizer=sgd"], ["penalty=l2_sp"]),
    "distill": (["teacher=live"], ["loss=hint"], ["freeze=bottom"], ["callback=[default,early_stopping]"]),
}
SMALL = ["trainer.max_steps=1", "trainer.max_epochs=1", "datamodule.train_rows=32", "datamodule.val_rows=8"]


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


CASES = [(verb, key, kind) for verb in VERBS for key in keys(verb) for kind in VALUES]
FURTHER = [
    (verb, words, key, kind)
    for verb, choices in MORE.items()
    for words in choices
    for key in keys(verb, *words)
    if key not in keys(verb)
    for kind in VALUES
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, base) -> Path:
    """A folder with a finished teacher and a finished student."""
    return base / "outputs"


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
    more = {"evaluate": [student, "repeats=1"], "predict": [student, rows, "file=labelled.csv"]}
    return [f"outputs={runs}", *more.get(verb, [])] + ["seconds=0.1"] * (verb in ("sync", "dashboard"))


def tried(kdlab, verb: str, words: list[str], key: str, kind: str) -> None:
    code, out, err = kdlab(verb, *words, f"{key}={VALUES[kind]}")
    said = [one for one in err.splitlines() if one.startswith("error: ")]
    assert "Traceback" not in out + err
    if code == 0:
        return
    assert code == 2, err
    assert len(said) == 1, err
    assert re.search(rf"\b{re.escape(key.split('.')[-1])}\b", said[0]), f"does not name {key}: {said[0]}"


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("verb", "key", "kind"), CASES, ids=[f"{verb} {key} {kind}" for verb, key, kind in CASES])
def test_no_value_ends_in_a_traceback(kdlab, tiny, runs, verb, key, kind, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "")
    words = line(verb, tiny, runs, key)
    if verb == "view":
        code, _, err = kdlab(verb, *words)
        assert (code == 2 and "needs a terminal" in err) or "W&B log" in err
    tried(kdlab, verb, words, key, kind)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("verb", "choice", "key", "kind"),
    FURTHER,
    ids=[f"{verb} {choice[0]} {key} {kind}" for verb, choice, key, kind in FURTHER],
)
def test_no_value_of_another_option_ends_in_a_traceback(kdlab, tiny, runs, verb, choice, key, kind):
    words = [word for word in line(verb, tiny, runs, key) if not (choice == ["model=mlp"] and word.startswith("model"))]
    tried(
        kdlab, verb, [*words, *choice, *["model.tokenizer=train:wordpiece:200"] * (choice == ["model=mlp"])], key, kind
    )
