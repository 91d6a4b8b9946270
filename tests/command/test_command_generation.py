"""Generated texts from the command line: measured in validation, followed, kept as samples, and evaluated."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kdlab.logger.wandb_log import logs, read
from tests.command.test_command_language import TINY

LIVES = {"france": "paris", "italy": "rome", "spain": "madrid", "japan": "tokyo"}
SCORES = ("exact_match", "rouge1", "rouge2", "rougeL", "bleu", "length_ratio", "ended", "repetition")


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    """Questions with an answer, which a narrow model learns in seconds."""
    path = tmp_path_factory.mktemp("answers") / "answers.csv"
    rows = [
        f"question {place} : where is {town} ? it is in {land} ." for place in range(40) for land, town in LIVES.items()
    ]
    path.write_text("\n".join(["text", *rows]))
    model = [f"model.{word}" for word in TINY if not word.startswith("hidden_size")]
    return [
        "task=causal_lm", "task.prompt=7", "metric=[causal_lm,generation]", "metric.generation.max_new_tokens=8",
        "datamodule=table", f"datamodule.path={path}", "datamodule.label_column=null", "datamodule.batch_size=8",
        "trainer.precision=32-true", "logger=none", "model=gpt_tiny", *model, "model.hidden_size=32",
        "optimizer.lr=1e-2",
    ]  # fmt: skip


def only(command: str = "finetune") -> Path:
    (path,) = Path("outputs", command).glob("*/done.json")
    return path.parent


def done(run: Path) -> dict:
    return json.loads((run / "done.json").read_text())


def samples(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "samples.jsonl").read_text("utf-8").splitlines()]


def curve(run: Path, name: str) -> list[float]:
    return [float(row[name]) for row in csv.DictReader((run / "history.csv").open()) if row.get(name)]


def test_a_run_measures_and_keeps_what_it_generates_and_is_evaluated(kdlab, words):
    code, out, err = kdlab("finetune", *words, "trainer.max_epochs=2", "logger=[wandb,tensorboard]")
    assert code == 0, out + err
    run = only()
    found = json.loads((run / "metrics.json").read_text())
    assert {f"test/generation/{name}" for name in SCORES} <= {*found}
    lines = out.splitlines()
    table = next(line for line in lines if line.startswith("generation"))
    assert table.split() == ["generation", "exact_match", "rougeL", "bleu", "length_ratio", "ended", "repetition"]
    assert done(run)["signature"]["generation/bleu"].startswith("nrefs:1")
    kept = samples(run)
    assert [(line["split"], line["step"]) for line in kept[::4]] == [("val", 15), ("val", 31), ("test", 31)]
    assert all("teacher" not in line and "it is in" in line["reference"] for line in kept)
    (folder,) = Path("outputs/wandb").glob("offline-run-*")
    shown = {name for row in read(logs(folder)[0]).history for name in row}
    assert {"val/samples", "test/samples", "val/generation/rougeL"} <= shown
    assert any(b"val/samples" in path.read_bytes() for path in run.glob("tensorboard/events*"))

    code, out, err = kdlab("evaluate", f"run={run.name}", "repeats=1")
    assert code == 0, out + err
    assert "generated texts" in out and "reference" in out and "it is in" in out and "rougeL" in out
    (report,) = Path("outputs/evaluate").glob("*/report.json")
    content = json.loads(report.read_text())
    for name in SCORES:
        measured = content["models"]["trained"].get(f"generation/{name}")
        assert measured == pytest.approx(found[f"test/generation/{name}"]), name
    of_run = {str(line["row"]): line["student"] for line in kept if line["split"] == "test"}
    assert {row: texts["trained"] for row, texts in content["samples"].items()} == of_run
    more = ["metric=generation", "metric.generation.samples=1", "metric.generation.scores=[wer]"]
    code, out, err = kdlab("evaluate", f"run={run.name}", "repeats=1", *more, "metric.generation.max_new_tokens=2")
    assert code == 0 and "wer" in out and "rougeL" not in out and out.count("\n  reference") == 1, out + err


@pytest.mark.slow
def test_early_stopping_and_the_best_weights_follow_a_generated_score(kdlab, words):
    """The loss still falls while the texts are as good as they get, so that a run that follows it goes on."""
    more = ["callback=[default,early_stopping]", "callback.early_stopping.patience=2", "trainer.max_epochs=14"]
    more += ["metric=[generation,causal_lm]", "metric.generation.primary=rougeL", "metric.generation.scores=[rouge]"]
    code, out, err = kdlab("finetune", *words, *more)
    assert code == 0, out + err
    run = only()
    values, losses = curve(run, "val/generation/rougeL"), curve(run, "val/loss")
    best = max(values)
    assert done(run)["metric"] == "val/generation/rougeL" and done(run)["value"] == pytest.approx(best)
    assert len(values) == values.index(best) + 3 < 14, values
    assert min(losses) < losses[values.index(best)], "the loss has another best epoch"


@pytest.mark.slow
def test_the_monitor_of_a_checkpoint_may_be_any_generated_score(kdlab, words):
    more = ["callback.checkpoint.monitor=val/generation/length_ratio", "trainer.max_epochs=1"]
    code, _, err = kdlab("finetune", *words, *more)
    assert code != 0 and "does not declare whether more is better" in err
    code, out, err = kdlab(
        "finetune", *words, "callback.checkpoint.monitor=val/generation/bleu", "trainer.max_epochs=1"
    )
    assert code == 0 and done(only())["metric"] == "val/generation/bleu", out + err


@pytest.mark.slow
def test_a_live_teacher_s_texts_are_beside_the_student_s(kdlab, words):
    assert kdlab("finetune", *words, "trainer.max_epochs=2")[0] == 0
    teacher = only()
    own = [word.replace("model.", "student.") for word in words if not word.startswith("model=")]
    own = [word.replace("metric=[causal_lm,", "metric=[causal_lm,fidelity,") for word in own]
    more = [f"teacher.run={teacher.name}", "model@student=gpt_tiny", "trainer.max_epochs=1", "teacher=live"]
    code, out, err = kdlab("distill", *own, *more)
    assert code == 0, out + err
    (run,) = [path.parent for path in Path("outputs/distill").glob("*/done.json")]
    of_teacher = {line["row"]: line["student"] for line in samples(teacher) if line["split"] == "test"}
    assert {line["row"]: line["teacher"] for line in samples(run) if line["split"] == "test"} == of_teacher
    code, out, err = kdlab("evaluate", f"run={run.name}", "repeats=1")
    assert code == 0 and all(name in out for name in ("untrained", "distilled", "teacher")), out + err


@pytest.mark.slow
def test_doctor_counts_the_time_of_generating(kdlab, words):
    code, out, err = kdlab("doctor", "finetune", *words)
    assert code == 0 and "generated texts" in out, out + err
    code, out, err = kdlab("doctor", "finetune", *words, "metric=[causal_lm]")
    assert "generated texts" not in out, out + err


REFUSED = {
    "score": (["metric.generation.scores=[rougeL]"], "choose among bleu"),
    "length": (["metric.generation.max_new_tokens=1000"], "metric.generation.max_new_tokens=1000 is more than the 505"),
    "primary": (["metric.generation.primary=wer"], "metric.generation.primary=wer is not among"),
    "rows": (["metric.generation.rows=0"], "metric.generation.rows"),
    "monitor": (["callback.checkpoint.monitor=val/generation/wer"], "is not measured in validation"),
    "task": (["task=sequence_classification", "datamodule.label_column=text"], "error"),
}


@pytest.mark.sampled(3, tried="all")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(kdlab, words, case):
    more, sentence = REFUSED[case]
    own = [word for word in words if case != "task" or not word.startswith(("task", "datamodule.label"))]
    code, out, err = kdlab("finetune", *own, *more)
    assert code != 0 and sentence in " ".join(err.split()), out + err
    assert "Traceback" not in err
