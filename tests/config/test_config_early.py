"""What is said of a command line before torch is imported: keys, options, values, grammar and flags."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object

from kdlab.config import conf
from kdlab.config.early import look
from kdlab.config.signature import signature
from kdlab.error import UserError

MISTAKES = {  # a command line -> what must be said
    "distill experiment=smollm2 metric=[causal_lm]": ("leave the settings out with ~metric.generation",),
    "distill lr=1e-3": ("no setting 'lr'", "Did you mean optimizer.lr?"),
    "distill temperature=4": ("Did you mean loss.temperature?",),
    "distill epochs=3": ("Did you mean trainer.max_epochs",),
    "distill batch_size=8": ("Did you mean datamodule.batch_size",),
    "distill +lr=1e-3": ("Nothing reads +lr", "Did you mean optimizer.lr?"),
    "distill ++temperature=4": ("Nothing reads ++temperature", "Did you mean loss.temperature?"),
    "distill +optimizer.lrr=1": ("optimizer.lrr is no argument of AdamW", "Did you mean optimizer.lr?"),
    "distill +trainer.epochs=1": ("trainer.epochs is no argument of Trainer", "Did you mean trainer.m"),
    "distill +cluster.thread=1": ("Nothing reads +cluster.thread", "Did you mean cluster.threads?"),
    "distill +callback.mine=1": ("callback.mine must be a mapping with a _target_",),
    "distill +loss.terms.mine=1": ("loss.terms.mine must be a mapping with a _target_",),
    "distill ~loss.alphas": ("no setting 'loss.alphas'", "Did you mean loss.alpha?"),
    "distill loss.alpah=1": ("'loss.alpah' with loss=kd", "Did you mean loss.alpha?"),
    "distill student=bert_tiny": ("Did you mean model@student=bert_tiny?",),
    "distill teacher.model=bert_tiny": ("Did you mean model@teacher.model=bert_tiny?",),
    "distill model=bert_tiny": ("Did you mean model@student=bert_tiny or model@teacher.model=bert_tiny?",),
    "distill optimiser=adamw": ("'optimiser'", "Did you mean optimizer?"),
    "distill optimizer=adamm": ("no optimizer=adamm", "Did you mean optimizer=adam"),
    "distill model@student=berty": ("Did you mean model@student=bert_tiny?",),
    "distill optimizer=null": ("optimizer=null chooses nothing", "adafactor, adam"),
    "finetune teacher=live": ("`kdlab finetune` has no group 'teacher'",),
    "distill optimizer.lr=fast": ("optimizer.lr is 'fast'", "a number from 0 up"),
    "distill allow_overlap=maybe": ("allow_overlap is 'maybe'", "true or false"),
    "distill student.lr=fast": ("student.lr is 'fast'", "a number from 0 up"),
    "finetune trainer.max_epochs=0": ("trainer.max_epochs is 0", "a whole number from 1 up"),
    "finetune trainer.max_steps=-2": ("trainer.max_steps is -2", "-1"),
    "finetune trainer.max_epochs=1e12": ("trainer.max_epochs is 1000000000000", "2,147,483,647"),
    "finetune logger.wandb.entity=a/b": ("logger.wandb.entity is 'a/b'", "without /"),
    "finetune datamodule=table datamodule.path=. datamodule.label_names=[false,true]": ("['no','yes'] in quotes",),
    "distill seed=-1": ("seed is -1", "from 0 to 4294967295"),
    "distill rerun=maybe": ("rerun is 'maybe'", "true or false"),
    "distill datamodule=table": ("datamodule.path has no value", "datamodule.path=VALUE"),
    "distill datamodule=table datamodule.path=nowhere.csv": ("datamodule.path: there is no file nowhere.csv",),
    "distill datamodule.path=~/x.csv": ("cannot be read", "write \"datamodule.path='~/x.csv'\""),
    "distill teacher.recipe=[datamodule=table]": ("write \"teacher.recipe=['datamodule=table']\"",),
    "distill teacher.recipe=[[a=b],c]": ("teacher.recipe=[[a=b],c] cannot be read",),
    "distill loss.alpha=1,2": ("add -m to run each of them", "loss.alpha=[1,2]"),
    "distill seed=3 loss.alpha=1,2 loss=kd": ("(kdlab distill -m seed=3 loss.alpha=1,2 loss=kd)",),
    "doctor distill --config-dir . seed=3,4": ("(kdlab doctor distill -m --config-dir=. seed=3,4)",),
    "distill datamodule.text_column=subject,message": (
        'values: write "datamodule.text_column=[subject,message]" for two',
        "or add -m to run each of them",
    ),
    "distill group='a' seed=1,2": ("(kdlab distill -m \"group='a'\" seed=1,2)",),
    "distill datamodule.text_column=choice(a,b)": ("gives several values: add -m to run each of them",),
    "distill datamodule.text_column=a,b,c": ("write \"datamodule.text_column='{a} {b} {c}'\" for one text",),
    "distill datamodule.label_column=toxic,insult": (
        'write "datamodule.label_column=[toxic,insult]" for columns of 0 and 1',
    ),
    "distill -m optimizer.lr=1e-3,fast": ("point 2 of 2 (optimizer.lr=fast): optimizer.lr is 'fast'",),
    "distill -m loss.alpha=0.1,0.2 --cfg hydra": ("--cfg hydra shows one config", "-m with --cfg job"),
    "distill -m --info": ("--info shows one config",),
    "doctor distill lr=1": ("Did you mean optimizer.lr?",),
    "runs +sorted=x": ("Nothing reads +sorted",),
    "runs format=xml": ("format is 'xml'", "csv, parquet"),
    "runs every=0": ("every is 0", "a number above 0"),
    "evaluate split=exam run=x": ("split is 'exam'", "train, val, test"),
    "evaluate": ("run has no value", "kdlab help run"),
    "store action=drop": ("action is 'drop'", "list, verify, prune"),
    "distill mine.csv": ("'mine.csv' is no override", "datamodule=table datamodule.path=mine.csv"),
    "distill --data mine.csv": ("unrecognized arguments: --data", "settings are written KEY=VALUE, without dashes"),
    "distil": ("did you mean distill?", "doctor, evaluate, export"),
}


@pytest.mark.sampled(10, tried="all")
@pytest.mark.parametrize("line", MISTAKES)
def test_a_simple_mistake_is_one_sentence_and_leaves_nothing_behind(kdlab, line, tmp_path):
    code, out, err = kdlab(*line.split(" "))
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and not out
    assert all(part in err for part in MISTAKES[line]), err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["path=messages.csv", "data=messages.csv", "file=messages.csv"])
def test_a_table_that_is_given_to_a_wrong_key_is_answered_with_the_right_ones(kdlab, tmp_path, word):
    (tmp_path / "messages.csv").write_text("text,label\n")
    code, _, err = kdlab("distill", word)
    assert code == 2 and err.count("\n") == 1
    assert err.endswith("for a table: datamodule=table datamodule.path=messages.csv\n")
    assert "teacher.model" not in err


def without_torch(*lines: str) -> subprocess.CompletedProcess[str]:
    """Run command lines in one new process in which torch cannot be imported."""
    code = """
import sys
sys.modules["torch"] = None
from kdlab.__main__ import main
for line in sys.argv[1:]:
    sys.argv = ["kdlab", *line.split(" ")]
    try:
        main()
    except SystemExit as stop:
        print(f"{line}: {stop.code}", flush=True)
"""
    variables = os.environ | {"PYTHONPATH": str(conf().parent), "KDLAB_TRACEBACK": ""}
    return subprocess.run([sys.executable, "-c", code, *lines], env=variables, capture_output=True, text=True)


@pytest.mark.slow
def test_simple_mistakes_are_answered_without_torch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = without_torch(*MISTAKES)
    said = done.stdout.splitlines()
    assert said == [f"{line}: 2" for line in MISTAKES], done.stderr
    assert done.stderr.count("error: ") == len(MISTAKES)


@pytest.mark.slow
def test_commands_that_ask_no_model_do_without_torch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("outputs").mkdir()
    done = without_torch("runs", "help runs", "help optimizer.lr", "distill --help", "distill --cfg job", "store")
    assert "torch" not in done.stderr


def test_hydras_flags_and_good_lines_pass(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.json").write_text("{}")  # a model from elsewhere
    for words in (
        [],
        ["+loss/term@loss.terms.hint=hint", "loss.terms.hint.weight=3"],
        ["+schedule@loss.alpha=linear", "loss.alpha.end=0.5"],
        ["+callback.mine={_target_: lightning.pytorch.callbacks.Timer}"],
        ["+trainer.min_epochs=1", "++trainer.max_time=null"],
        ["~callback.progress", "logger=none", "callback=[default,early_stopping]"],
        ["teacher=ensemble", "+teacher@teacher.members.one=cached", "teacher.members.one.run=x"],
        ["datamodule.batch_size=8.0", "group=2024"],
    ):
        look("distill", words, conf())


def test_a_sweep_prints_the_configs_of_its_jobs(kdlab):
    code, out, err = kdlab("distill", "-m", "loss.alpha=0.1,0.2", "seed=1,2", "--cfg", "job")
    assert (code, err) == (0, "")
    found = [(one["loss"]["alpha"], one["seed"]) for one in yaml.safe_load_all(out)]
    assert found == [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)]
    assert "# job 3: loss.alpha=0.2, seed=2" in out


TARGETS = sorted(
    {
        node["_target_"]
        for path in conf().glob("*/**/*.yaml")
        if "hydra" not in path.parts
        for node in [yaml.safe_load(path.read_text()) or {}]
        if node.get("_target_", "???") != "???"
    }
)


def test_what_is_read_of_a_signature_is_what_python_says():
    read = 0
    for target in TARGETS:
        found = signature(target)
        parameters = inspect.signature(get_object(target)).parameters
        if found is None:
            assert all(one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) for one in parameters.values()), target
            continue
        named = [name for name, one in parameters.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        assert sorted(found.parameters) == sorted(named), target
        assert found.open == any(one.kind is one.VAR_KEYWORD for one in parameters.values()), target
        read += 1
    assert read > 50


def test_a_signature_follows_imports_and_base_classes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from base import Base as B\nclass Mine(B):\n    pass\ndef made(a: int, *, b: str = '', **more): ...\n"
    )
    Path("base.py").write_text("class Base:\n    def __init__(self, size: int, name=None): ...\n")
    assert signature("mine.Mine").parameters == {"size": "int", "name": ""}
    assert signature("mine.made").parameters == {"a": "int", "b": "str"} and signature("mine.made").open
    assert signature("mine.nothing") is None and signature("nowhere.X") is None


def test_a_folder_of_options_that_is_not_there():
    with pytest.raises(UserError, match="no such folder"):
        look("distill", [], conf(), Path("nowhere"))


OPEN = " or ".join(f"datamodule={option} datamodule.path=…" for option in ("table", "chat", "pairs"))


@pytest.mark.parametrize(
    ("verb", "word", "better"),
    [
        ("distill", "datamodule.path=mine.csv", OPEN),
        ("evaluate", "datamodule.path=mine.csv", OPEN),
        ("finetune", "optimizer.momentum=0.9", "optimizer=sgd optimizer.momentum=…"),
    ],
)
def test_a_setting_of_another_option_names_that_option(verb, word, better):
    with pytest.raises(UserError, match=re.escape(f"Did you mean {better}?")):
        look(verb, [word], conf())
