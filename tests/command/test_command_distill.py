"""Whole commands on made-up reviews: what a run leaves behind, and that it is done once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from undeclared import undeclared

from kdlab.config.direction import higher_is_better


def folders(command: str) -> list[Path]:
    return sorted(path.parent for path in Path("outputs", command).glob("*/config.yaml"))


def test_distill_trains_the_teacher_leaves_a_whole_run_and_is_not_done_twice(kdlab, tiny):
    code, _, err = kdlab("distill", *tiny["distill"])
    assert code == 0, err
    (run,), (teacher,) = folders("distill"), folders("finetune")
    for name in (
        "config.yaml", "metrics.json", "history.csv", "run.log", "environment.json", "done.json", "overrides.yaml",
        "checkpoints/last.ckpt", "checkpoints/best.ckpt", "model/config.json", "model/model.safetensors",
    ):  # fmt: skip
        assert (run / name).is_file(), name
    metrics = json.loads((run / "metrics.json").read_text())
    for name in (
        "test/accuracy", "test/f1_macro", "test/ece", "test/fidelity/agreement", "best/val/accuracy",
        "teacher/test/accuracy", "test/rows", "val/majority", "test/majority",
        "model/parameters", "model/trainable_parameters", "model/size_mb", "perf/latency_ms", "perf/samples_per_second",
        "model/macs", "perf/latency_p10_ms", "perf/latency_p90_ms", "teacher/model/macs",
        "teacher/model/parameters", "perf/teacher_seconds",
    ):  # fmt: skip
        assert name in metrics, name
    counts = json.loads((run / "test.json").read_text())["confusion"]
    assert sum(map(sum, counts)) == metrics["test/rows"] == 16
    assert (counts[0][0] + counts[1][1]) / 16 == pytest.approx(metrics["test/accuracy"])
    assert metrics["test/majority"] in [sum(row) / 16 for row in counts]
    done = json.loads((run / "done.json").read_text())
    assert done["state"] == "finished"
    assert done["value"] == metrics["best/val/accuracy"]
    assert undeclared(run) == set()
    assert {name for name in metrics if higher_is_better(name, done["higher_is_better"]) is None} == {
        "best/step", "test/rows", "val/majority", "test/majority",
    }  # fmt: skip
    assert json.loads((run / "teacher.json").read_text())["id"] == teacher.name
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["choice"]["student"] == "bert_tiny"
    assert run.name.startswith("reviews-bert_tiny-kd-none-s0-")

    before = (run / "done.json").stat().st_mtime_ns
    code, out, _ = kdlab("distill", *tiny["distill"])
    assert code == 0
    assert f"{run.name} already finished: val/accuracy {done['value']:.3f}. Use rerun=true to train it again." in out
    assert (run / "done.json").stat().st_mtime_ns == before
    code, _, _ = kdlab("distill", *tiny["distill"], "rerun=true")
    assert code == 0
    assert (run / "done.json").stat().st_mtime_ns > before
    assert len(folders("distill")) == len(folders("finetune")) == 1


def test_a_saved_run_loads_with_plain_transformers(kdlab, tiny):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    assert kdlab("finetune", *tiny["finetune"])[0] == 0
    (run,) = folders("finetune")
    model = AutoModelForSequenceClassification.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    assert model.config.id2label == {0: "negative", 1: "positive"}
    logits = model(**tokenizer("a good film", return_tensors="pt")).logits
    assert logits.shape == (1, 2)


def test_a_sweep_trains_one_teacher_stores_its_targets_once_and_ends_with_a_table(kdlab, tiny):
    code, out, err = kdlab("distill", "-m", *tiny["distill"], "loss.temperature=1,2", "freeze=none,head")
    assert code == 0, err
    assert len(folders("distill")) == 4
    assert len(folders("finetune")) == 1
    stored = [json.loads(path.read_text()) for path in Path("outputs/store").glob("*/meta.json")]
    assert sorted("teacher" in meta for meta in stored) == [False, True], "and what the frozen student says, once"
    assert "4 runs" in out
    assert "kdlab report" in out


def test_one_failing_job_of_a_sweep_leaves_the_others_done_and_fails_the_sweep(kdlab, tiny):
    code, out, err = kdlab("distill", "-m", *tiny["distill"], "student.heads=2,3")
    assert code != 0
    done = [run for run in folders("distill") if (run / "done.json").exists()]
    failed = [run for run in folders("distill") if (run / "failed.json").exists()]
    assert (len(done), len(failed)) == (1, 1)
    assert "failed" in out + err


def weights(run: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run / "model" / "model.safetensors")


@pytest.mark.slow
def test_a_stored_and_a_live_teacher_give_the_same_run(kdlab, tiny):
    for teacher in ("live", "cached"):
        code, _, err = kdlab(
            "distill", *tiny["distill"], f"teacher={teacher}", "loss.alpha=1.0", f"outputs={teacher}", "logger=none"
        )
        assert code == 0, err
    (live,), (cached,) = (list(Path(name, "distill").glob("reviews-*")) for name in ("live", "cached"))
    ours, theirs = weights(live), weights(cached)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)


@pytest.mark.slow
def test_the_same_run_twice_is_the_same_bit_for_bit(kdlab, tiny):
    for outputs in ("one", "two"):
        assert kdlab("distill", *tiny["distill"], f"outputs={outputs}", "logger=none")[0] == 0
    one, two = (weights(next(iter(Path(name, "distill").glob("reviews-*")))) for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.sampled(0, tried=3)
@pytest.mark.parametrize("how", ["id", "folder", "model folder", "checkpoint"])
def test_a_teacher_by_run_id_directory_model_or_checkpoint(kdlab, tiny, how):
    assert kdlab("finetune", *tiny["finetune"], "logger=none")[0] == 0
    (run,) = folders("finetune")
    name = {"id": run.name, "folder": run, "model folder": run / "model", "checkpoint": run / "checkpoints/best.ckpt"}[
        how
    ]
    words = [word for word in tiny["distill"] if not word.startswith("teacher.recipe")]
    code, _, err = kdlab("distill", *words, f"teacher.run={name}", "logger=none")
    assert code == 0, err
    assert len(folders("distill")) == 1


@pytest.mark.slow
def test_without_terms_no_teacher_is_trained(kdlab, tiny):
    code, _, err = kdlab("distill", *tiny["distill"], "loss=ce", "logger=none")
    assert code == 0, err
    assert len(folders("distill")) == 1
    assert folders("finetune") == []


@pytest.mark.slow
def test_evaluate_shows_before_against_after(kdlab, tiny):
    assert kdlab("distill", *tiny["distill"], "logger=none")[0] == 0
    (run,) = folders("distill")
    assert kdlab("distill", *tiny["distill"], "loss=ce", "logger=none")[0] == 0
    code, out, err = kdlab("evaluate", f"run={run.name}", "repeats=2")
    assert code == 0, err
    (report,) = Path("outputs/evaluate").glob("*/report.json")
    models = json.loads(report.read_text())["models"]
    assert list(models) == ["untrained", "without teacher", "distilled", "teacher"]
    assert models["distilled"]["accuracy"] == pytest.approx(
        json.loads((run / "metrics.json").read_text())["test/accuracy"]
    )
    assert models["teacher"]["agreement"] == 1.0
    for name in ("untrained", "without teacher", "distilled", "teacher"):
        assert name in out


@pytest.mark.slow
def test_another_file_is_measured_whole(kdlab, tiny):
    assert kdlab("finetune", *tiny["finetune"], "logger=none")[0] == 0
    (run,) = folders("finetune")
    Path("new.csv").write_text("text,label\n" + "good film,positive\n" * 7 + "a film without a label,\n")
    words = ["evaluate", f"run={run.name}", "repeats=1", "datamodule=table", "datamodule.path=new.csv"]
    code, out, err = kdlab(*words)
    assert code == 0, err
    assert "measures 7 rows of new.csv" in out
    (report,) = Path("outputs/evaluate").glob("*/report.json")
    found = json.loads(report.read_text())
    assert found["rows"] == sum(map(sum, found["models"]["trained"]["confusion"])) == 7
    Path("new.csv").write_text("text,label,part\ngood,positive,train\nbad,negative,test\nbad,positive,test\n")
    code, out, err = kdlab(*words, "datamodule.split_column=part")
    assert code == 0 and "measures 2 rows" in out, "a split of its own is measured as it is"
    code, _, err = kdlab(*words, "datamodule.split_column=part", "split=val")
    assert code == 2 and "no labelled val rows" in err


@pytest.mark.slow
def test_texts_without_any_label_learn_from_a_teacher_and_are_validated_by_agreement(kdlab, tiny, reviews):
    assert kdlab("finetune", *tiny["finetune"], "logger=none")[0] == 0
    (teacher,) = folders("finetune")
    texts = [line.rpartition(",")[0] for line in reviews.read_text().splitlines()]
    Path("texts.csv").write_text("\n".join(texts))
    words = [word for word in tiny["distill"] if not word.startswith(("teacher.recipe", "datamodule.path"))]
    words += ["datamodule.path=texts.csv", "datamodule.label_column=null", f"teacher.run={teacher.name}", "logger=none"]
    code, _, err = kdlab("distill", *words, "loss.alpha=0.5")
    assert code == 2 and "set loss.alpha=1" in err
    code, out, err = kdlab("doctor", "distill", *words, "loss.alpha=1")
    assert code == 0, out + err
    code, out, err = kdlab("distill", *words, "loss.alpha=1")
    assert code == 0, out + err
    run = next(path for path in folders("distill") if (path / "done.json").exists())
    done, metrics = (json.loads((run / name).read_text()) for name in ("done.json", "metrics.json"))
    assert done["metric"] == "val/fidelity/agreement" and 0 < done["value"] == metrics["best/val/fidelity/agreement"]
    assert "test/fidelity/agreement" in metrics and not {"test/accuracy", "test/loss"} & set(metrics)
    assert json.loads((run / "model/labels.json").read_text()) == ["negative", "positive"]
    code, _, err = kdlab("evaluate", f"run={run.name}", "repeats=1")
    assert code == 2 and "has a label to compare with" in err
    code, out, err = kdlab("evaluate", f"run={run.name}", "repeats=1", "datamodule=table", f"datamodule.path={reviews}")
    assert code == 0 and "measures 160 rows" in out


@pytest.mark.slow
def test_help_of_every_verb_is_quick_and_needs_no_torch():
    import subprocess
    import sys

    from verbs import VERBS

    code = (
        "import sys; from kdlab.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )
    for arguments in ([], *[[verb, "--help"] for verb in VERBS]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "kdlab" in done.stdout
