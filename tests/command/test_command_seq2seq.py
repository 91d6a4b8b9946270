"""An encoder-decoder from the command line: distilled from its stored largest logits, evaluated, resumed, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bits import same_run
from fork import end, start

TINY = ("hidden_size=16", "layers=1", "encoder_layers=2", "heads=2", "intermediate_size=32", "max_length=32")


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Words and their letters, from behind."""
    path = tmp_path_factory.mktemp("pairs") / "words.tsv"
    names = ["".join("abcdefgh"[int(digit)] for digit in f"{number:04o}") for number in range(160)]
    rows = [f"{name}\t{' '.join(reversed(name[number % 3 :]))}" for number, name in enumerate(names)]
    path.write_text("\n".join(["word\tsound", *rows]))
    return path


@pytest.fixture(scope="module")
def words(table) -> dict[str, list[str]]:
    shared = ["task=seq2seq", "metric=[causal_lm,fidelity]", "datamodule=pairs", f"datamodule.path={table}"]
    shared += ["datamodule.source_column=word", "datamodule.target_column=sound", "logger=none"]
    shared += ["datamodule.target_tokenizer=train:symbol", "datamodule.batch_size=16", "trainer.max_epochs=1"]
    shared += ["trainer.precision=32-true"]
    own = [*TINY, "tokenizer=train:char"]
    teacher = [*shared, "model=seq2seq_tiny", *[f"model.{word}" for word in own], "optimizer.lr=1e-2"]
    recipe = ",".join(f"'{word}'" for word in teacher)
    student = [f"{place}.{word}" for place in ("student", "teacher.model") for word in own]
    student += ["model@student=seq2seq_tiny", "model@teacher.model=seq2seq_tiny", f"teacher.recipe=[{recipe}]"]
    return {"finetune": teacher, "distill": [*shared, *student]}


@pytest.mark.slow
def test_pairs_become_a_student_that_is_evaluated_and_reported(kdlab, words):
    code, out, err = kdlab("doctor", "distill", *words["distill"], "loss=kd_top_k", "teacher.top_k=4")
    assert code == 0 and "No problems found" in out, out + err
    code, out, err = kdlab("distill", *words["distill"], "loss=kd_top_k", "teacher.top_k=4", "task.chunk=64")
    assert code == 0, out + err
    (run,) = Path("outputs/distill").glob("*/done.json")
    found = json.loads((run.parent / "metrics.json").read_text())
    assert {"test/perplexity", "test/accuracy", "best/val/accuracy", "test/fidelity/kl"} <= set(found)
    assert 1 < found["test/perplexity"] < 15
    code, out, err = kdlab("evaluate", f"run={run.parent.name}", "repeats=1")
    assert code == 0 and "perplexity" in out, out + err
    (report,) = Path("outputs/evaluate").glob("*/report.json")
    models = json.loads(report.read_text())["models"]
    assert models["distilled"]["accuracy"] == pytest.approx(found["test/accuracy"], rel=1e-4)
    assert kdlab("report")[0] == 0 and kdlab("runs")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["cached", "live"])
def test_a_killed_run_goes_on_to_the_same_bits(words, tmp_path, teacher):
    line = ["distill", *words["distill"], f"teacher={teacher}", "loss=hint", "callback.checkpoint.every_n_steps=3"]
    line += ["loss.terms.hint.taps={student:hidden.-1,teacher:hidden.-1}", "trainer.log_every_n_steps=1"]

    def done(folder, **kill):
        folder.mkdir(exist_ok=True)
        if kill:
            code, shown = end(start(line, folder, **kill), folder)
            assert code == -9, shown
        code, shown = end(start(line, folder), folder)
        assert code == 0, shown
        (path,) = folder.glob("outputs/distill/*/done.json")
        return path.parent

    whole = done(tmp_path / "whole")
    same_run(whole, done(tmp_path / "killed", kill="kdlab.module.distill.Distill.training_step", call=6))


REFUSED = {
    "decoder": (["model@student=gpt_tiny"], "choose another model"),
    "encoder": (["model@student=bert_tiny"], "choose another model"),
    "labels": (["task=causal_lm"], "task=seq2seq"),
    "column": (["datamodule.source_column=wrd"], "did you mean 'word'"),
    "task": (["datamodule=table", "~datamodule.source_column"], "datamodule=pairs"),
    "augment": (["datamodule/augment=word_dropout"], "a pair has two"),
    "prompt": (["peft=prompt"], "peft=none"),
    "positions": (["student.max_length=4"], "positions"),
}


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(kdlab, words, table, case):
    more, sentence = REFUSED[case]
    own = words["distill"]
    if case == "task":
        own = [word for word in own if not word.startswith("datamodule")]
        more = ["datamodule=table", f"datamodule.path={table}", "datamodule.text_column=word"]
        more += ["datamodule.label_column=null"]
    if more[0].startswith("model@"):
        own = [word for word in own if not word.startswith(("student.", "model@student"))]
        more = [*more, "student.tokenizer=train:char"]
    code, out, err = kdlab("distill", *own, *more)
    assert code == 2 and sentence in " ".join(err.split()), out + err
    assert "Traceback" not in err
