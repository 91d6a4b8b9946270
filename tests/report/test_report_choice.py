"""The best is chosen without its test rows, marks survive Holm's correction, and other test rows are other problems."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from synthetic_run import distill_config, write_run

from kdlab.report import records
from kdlab.report.compare import company, compare, validation
from kdlab.report.cost import Costs
from kdlab.report.page import page
from kdlab.report.statistic import holm, paired, wilson

RUN = {"test/rows": 120.0, "test/majority": 0.4}


def run(outputs, name, seed, temperature, metrics, test_set="one", **options):
    folder = write_run(outputs, "distill", name, distill_config(seed, temperature, **options), RUN | metrics)
    (folder / "test.json").write_text(json.dumps({"set": test_set}))
    done = json.loads((folder / "done.json").read_text())
    (folder / "done.json").write_text(json.dumps(done | {"metric": "val/accuracy"}))
    return folder


def test_the_best_is_chosen_on_validation_and_reported_on_test(tmp_path):
    run(tmp_path, "a", 1, 1.0, {"best/val/accuracy": 0.60, "test/accuracy": 0.55, "test/f1_macro": 0.5})
    run(tmp_path, "b", 1, 2.0, {"best/val/accuracy": 0.58, "test/accuracy": 0.59, "test/f1_macro": 0.6})
    for metric in ("test/accuracy", "test/f1_macro"):  # no val/f1_macro: what the weights were kept by decides
        found = compare(records(tmp_path), metric)
        assert list(found.chosen_by.values()) == ["best/val/accuracy"]
        assert [row.runs[0].id for row in found.best.values()] == ["a"]
        assert [row.runs[0].id for row in found.rows] == ["a", "b"]
    (best,) = compare(records(tmp_path), "test/accuracy").best.values()
    assert best.within == pytest.approx(stats.binomtest(66, 120).proportion_ci(method="wilson"))
    assert "Chosen by best/val/accuracy" in page(records(tmp_path), "test/accuracy", "t", "outputs")


def test_a_choice_on_the_test_rows_is_called_so(tmp_path):
    run(tmp_path, "a", 1, 1.0, {"test/accuracy": 0.55})
    assert validation(records(tmp_path), "test/accuracy") == "test/accuracy"
    assert "Chosen on the test set, so the score is optimistic." in page(records(tmp_path), "test/accuracy", "t", "o")


def test_runs_with_other_test_rows_are_not_ranked_against_each_other(tmp_path):
    run(tmp_path, "a", 1, 1.0, {"test/accuracy": 0.9})
    run(tmp_path, "b", 1, 1.0, {"test/accuracy": 0.5}, test_set="two")
    run(tmp_path, "base", 1, 1.0, {"test/accuracy": 0.4}, test_set="two", loss="ce")
    found = compare(records(tmp_path), "test/accuracy")
    assert len(found.best) == 2
    assert {row.runs[0].id: row.against for row in found.rows} == {"a": "", "b": "no teacher", "base": ""}
    assert all(name.startswith("movie_reviews (120 test rows, set ") for name in found.best)
    write_run(tmp_path, "distill", "c", distill_config(2), state="failed")
    names = compare(records(tmp_path), "test/accuracy").problems
    assert names[tmp_path / "distill/c"] not in found.best  # two sets have its settings: it is of neither


def test_an_unfinished_run_belongs_to_the_only_test_rows_of_its_settings(tmp_path):
    run(tmp_path, "a", 1, 1.0, {"test/accuracy": 0.9})
    write_run(tmp_path, "distill", "c", distill_config(2), state="failed")
    assert set(compare(records(tmp_path), "test/accuracy").problems.values()) == {"movie_reviews"}


def test_holm_is_scipys_rule_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("right", "count"), [(0, 5), (66, 120), (120, 120), (1, 3000)])
def test_the_interval_of_a_share_is_scipys(right, count):
    expected = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert wilson(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("gains", [[0.01, 0.01], [0.01, 0.01, 0.01], [0.0, 0.0]])
def test_equal_gains_are_no_proof(gains):
    theirs = {seed: 0.5 + seed / 7 for seed in range(len(gains))}
    found = paired({seed: theirs[seed] + gain for seed, gain in enumerate(gains)}, theirs)
    assert (found.low, found.high, found.p, found.n) == (None, None, None, len(gains))


@pytest.mark.slow
def test_one_page_in_twenty_marks_a_setting_where_none_differs():
    draw, pages, marked, uncorrected = np.random.default_rng(0), 1500, 0, 0
    for _ in range(pages):
        base = dict(enumerate(draw.normal(size=5)))
        p = [paired(dict(enumerate(draw.normal(size=5))), base).p for _ in range(20)]
        marked += min(holm(p)) < 0.05
        uncorrected += min(p) < 0.05
    assert 0.02 < marked / pages < 0.06
    assert uncorrected / pages > 0.35


def test_a_mark_is_of_the_corrected_difference(tmp_path):
    """Four seeds with p = 0.03 for one setting: alone it is marked, among ten equal ones none is."""
    noise = [0.010, 0.013, 0.002, 0.014]
    for seed, gain in enumerate(noise):
        run(tmp_path, f"base{seed}", seed, 1.0, {"test/accuracy": 0.5}, loss="ce")
        run(tmp_path, f"t0-{seed}", seed, 1.0, {"test/accuracy": 0.5 + gain})
    (taught,) = [row for row in compare(records(tmp_path), "test/accuracy").rows if not row.baseline]
    assert taught.difference.p == pytest.approx(stats.ttest_1samp(noise, 0).pvalue)
    assert taught.certain
    for seed, gain in enumerate(noise):
        for other in range(1, 10):
            run(tmp_path, f"t{other}-{seed}", seed, 1.0 + other, {"test/accuracy": 0.5 + gain})
    assert not any(row.certain for row in compare(records(tmp_path), "test/accuracy").rows)


def test_one_architecture_has_one_latency_and_no_axis_of_it(tmp_path):
    for name, latency, size in (("a", 1.5, 10.0), ("b", 7.8, 10.0)):
        metrics = {"test/accuracy": 0.5, "perf/latency_ms": latency, "model/parameters": size}
        run(tmp_path, name, 1, latency, metrics)
    found = records(tmp_path)
    names = ["model/parameters", "perf/latency_ms"]
    assert [Costs(found).steady(one) for one in found] == [{"perf/latency_ms": 1.5}] * 2
    assert Costs(found).axes(found, names) == ["model/parameters", "seconds"]
    run(tmp_path, "c", 1, 3.0, {"test/accuracy": 0.6, "perf/latency_ms": 9.0, "model/parameters": 99.0})
    found = records(tmp_path)
    assert sorted(Costs(found).steady(one)["perf/latency_ms"] for one in found) == [1.5, 1.5, 9.0]
    assert Costs(found).axes(found, names)[:2] == names


def test_what_a_metric_of_ones_own_declares_as_a_cost_is_an_axis(tmp_path):
    for name, joules, again in (("a", 5.0, 7.0), ("b", 9.0, 7.0)):
        metrics = {"test/accuracy": 0.5, "model/words": 10.0, "perf/joules": joules, "perf/rest": again}
        folder = run(tmp_path, name, 1, joules, metrics)
        done = json.loads((folder / "done.json").read_text())
        named = {"cost": {"model/words": "counted", "perf/joules": "timed"}, "higher_is_better": {"perf/joules": True}}
        (folder / "done.json").write_text(json.dumps(done | named))
    found = records(tmp_path)
    assert Costs(found).main == ["model/words", "perf/joules"] and Costs(found).counted == "model/words"
    assert Costs(found).axes(found, ["model/words", "perf/joules", "perf/rest"]) == ["model/words", "seconds"]
    assert [Costs(found).steady(one) for one in found] == [{"perf/joules": 9.0}] * 2, "of these, more is better"


def test_a_chosen_sweep_is_held_against_the_baselines_of_the_same_student_and_rows(tmp_path):
    chosen = run(tmp_path, "a", 1, 1.0, {"test/accuracy": 0.9})
    (chosen / "teacher.json").write_text(json.dumps({"id": "t", "folder": "outputs/finetune/t"}))
    run(tmp_path, "base", 1, 1.0, {"test/accuracy": 0.4}, loss="ce")
    run(tmp_path, "elsewhere", 1, 1.0, {"test/accuracy": 0.4}, test_set="two", loss="ce")
    run(tmp_path, "taught", 1, 2.0, {"test/accuracy": 0.4})
    write_run(tmp_path, "finetune", "t", distill_config(1), {"test/accuracy": 0.9})
    write_run(tmp_path, "finetune", "other", distill_config(1), {"test/accuracy": 0.9})
    every = records(tmp_path)
    assert {one.id for one in company([one for one in every if one.id == "a"], every)} == {"base", "t"}
