"""Evaluators of trained models, as a user asks for them: `kdlab evaluate run=RUN metric=NAME`."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def run(base, tmp_path, kdlab) -> str:
    """The id of a copy of a finished student."""
    shutil.copytree(base / "outputs", tmp_path / "outputs")
    (student,) = (tmp_path / "outputs" / "distill").iterdir()
    return student.name


def models(kdlab, *words: str) -> tuple[dict[str, dict], str]:
    shutil.rmtree("outputs/evaluate", ignore_errors=True)
    code, out, err = kdlab("evaluate", "repeats=1", *words)
    assert code == 0, err
    (report,) = Path("outputs/evaluate").glob("*/report.json")
    return json.loads(report.read_text())["models"], out


@pytest.mark.slow
def test_robustness_is_measured_of_all_models_also_with_a_perturbation_of_ones_own(run, kdlab):
    found, out = models(kdlab, f"run={run}", "metric=robustness", "metric.robustness.strengths=[0.3]")
    for name in ("untrained", "distilled", "teacher"):
        assert 0 <= found[name]["robustness/flipped"] <= 1
        assert 0 <= found[name]["robustness/typos/accuracy_0.3"] <= 1
        assert not any("noise" in key for key in found[name])
    assert found["distilled"]["robustness/case/flipped_0.3"] == 0, "the tokenizer lower-cases texts"
    assert "robustness/word_drop/area" in out
    own = "+metric/perturbation@metric.robustness.perturbations.mine=word_drop"
    found, _ = models(kdlab, f"run={run}", "metric=robustness", own)
    assert {key.split("/")[1] for key in found["teacher"] if key.startswith("robustness/")} == {
        "accuracy", "flipped", "mine",
    }  # fmt: skip


@pytest.mark.slow
def test_rows_of_another_table_are_seen_to_be_others(run, kdlab):
    Path("other.csv").write_text("text\n" + "\n".join(f"zzz {number} qqq" for number in range(30)))
    found, _ = models(kdlab, f"run={run}", "metric=ood", "metric.ood.path=other.csv")
    for name in ("untrained", "distilled", "teacher"):
        assert all(0 <= found[name][f"ood/{score}_auroc"] <= 1 for score in ("energy", "knn", "mahalanobis")), name
    assert found["teacher"]["ood/mahalanobis_auroc"] > 0.8, "its words are none that it knows"
    for words, sentence in (
        (["metric.ood.path=nowhere.csv"], "nowhere.csv"),
        (["metric.ood.path=other.csv", "metric.ood.column=body"], "metric.ood.column='body' is not in other.csv"),
        ([], "name it with metric.ood.path=FILE"),
    ):
        code, _, err = kdlab("evaluate", f"run={run}", "metric=ood", *words)
        assert code == 2 and sentence in " ".join(err.split()) and "Traceback" not in err


@pytest.mark.slow
def test_groups_of_another_table_are_compared(run, kdlab, reviews):
    first, *rows = reviews.read_text().splitlines()
    grouped = [f"{row},{'ab'[place % 4 > 1]}" for place, row in enumerate(rows)]
    Path("grouped.csv").write_text("\n".join([f"{first},source", *grouped]))
    table = ["datamodule=table", "datamodule.path=grouped.csv", f"run={run}", "metric=groups"]
    found, _ = models(kdlab, *table, "metric.groups.column=source")
    assert all("groups/tpr_gap_high" in found[name] for name in ("untrained", "distilled", "teacher"))
    assert found["teacher"]["groups/accuracy_gap_low"] <= found["teacher"]["groups/accuracy_gap"]
    for words, sentence in (
        ([], "name the column whose values they are with metric.groups.column=NAME"),
        (["metric.groups.column=souce"], "did you mean 'source'"),
        (["metric.groups.column=text"], "name a column of few values"),
    ):
        code, _, err = kdlab("evaluate", *table, *words)
        assert code == 2 and sentence in " ".join(err.split()), err


@pytest.mark.slow
def test_decisions_are_explained_and_agreement_with_the_teacher_is_measured(run, kdlab):
    found, _ = models(kdlab, f"run={run}", "metric=attribution", "metric.attribution.rows=6")
    for name in ("untrained", "distilled", "teacher"):
        assert found[name]["attribution/completeness"] < 1e-3, name
        for method in ("gradient_x_input", "integrated_gradients", "occlusion"):
            assert -1 <= found[name][f"attribution/{method}/comprehensiveness"] <= 1
    assert found["teacher"]["attribution/occlusion/agreement"] == pytest.approx(1, abs=1e-3)
    assert -1 <= found["distilled"]["attribution/occlusion/agreement"] < 1


@pytest.mark.slow
def test_a_suite_measures_what_fits_and_names_what_does_not(run, kdlab):
    found, out = models(kdlab, f"run={run}", "suite=full", "metric.attribution.rows=4", "metric.robustness.rows=4")
    for name in ("untrained", "distilled", "teacher"):
        assert {"calibration", "robustness", "attribution"} <= {key.split("/")[0] for key in found[name]}
    lines = [line for line in out.splitlines() if line.startswith("leaves out ")]
    assert [line.split()[2].rstrip(":") for line in lines] == ["ood", "groups", "generation"]
    assert "name the column whose values they are" in out and out.count("calibration/nll ") == 1
    found, _ = models(kdlab, f"run={run}", "suite=full", "metric=[calibration]")
    assert not any("robustness" in key for key in found["distilled"]), "a choice on the command line wins"
    code, _, err = kdlab("evaluate", f"run={run}", "suite=ful")
    assert code == 2 and "full" in err


@pytest.mark.slow
def test_calibration_is_measured_of_all_models_and_its_temperature_is_used_by_predict(run, kdlab):
    found, out = models(kdlab, f"run={run}", "metric=calibration")
    names = ("nll", "nll_scaled", "temperature", "aurc", "lac_coverage", "aps_size")
    for name in ("untrained", "distilled", "teacher"):
        assert all(f"calibration/{key}" in found[name] for key in names), name
    assert "calibration/nll_scaled" in out and "what was asked for" in out
    Path("new.csv").write_text("text\na fine film\nbad\n")
    chances = {}
    for words in ([], ["calibrated=4"]):
        code, out, err = kdlab("predict", f"run={run}", "path=new.csv", *words)
        assert code == 0, err
        chances[len(words)] = [float(row["probability_positive"]) for row in csv.DictReader(out.splitlines())]
    for plain, scaled in zip(chances[0], chances[1], strict=True):
        odds = plain / (1 - plain)
        assert scaled / (1 - scaled) == pytest.approx(odds**0.25, rel=1e-3)
    code, _, err = kdlab("predict", f"run={run}", "path=new.csv", "calibrated=run")
    assert code == 2 and "was tested with metric=[classification,calibration]" in err
    record = Path("outputs/distill") / run / "metrics.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"test/calibration/temperature": 4.0}))
    code, out, err = kdlab("predict", f"run={run}", "path=new.csv", "calibrated=run")
    assert code == 0, err
    assert [float(row["probability_positive"]) for row in csv.DictReader(out.splitlines())] == chances[1]
    code, _, err = kdlab("predict", f"run={run}", "path=new.csv", "calibrated=hot")
    assert code == 2 and "calibrated is 'hot', but must be" in " ".join(err.split())
