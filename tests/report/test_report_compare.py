"""The numbers agree with scipy, and every setting is held against the right baseline."""

import json
import math

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy import stats
from synthetic_run import distill_config, write_run

from kdlab.report import records, select
from kdlab.report.compare import compare
from kdlab.report.grid import _note
from kdlab.report.payload import payload
from kdlab.report.state import absent, counts
from kdlab.report.statistic import average, paired, student_cdf, student_quantile
from kdlab.report.table import AMONG, ordered

values = st.lists(st.floats(-100, 100), min_size=2, max_size=12).filter(lambda v: max(v) - min(v) > 1e-3)


@given(p=st.floats(0.5, 0.9999), freedom=st.integers(1, 60))
def test_quantile_is_scipys(p, freedom):
    assert student_quantile(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=1e-7, abs=1e-9)


@given(t=st.floats(0, 50) | st.floats(0, 0.01), freedom=st.integers(1, 60))
@example(t=3.3507427990446675e-11, freedom=1)  # scipy says 0.5
def test_distribution_is_scipys(t, freedom):
    """Near 0 scipy loses t² beside 1, and the series of the distribution stands in for it."""
    series = 0.5 + stats.t.pdf(0, freedom) * (t - (freedom + 1) / (6 * freedom) * t**3)
    expected = stats.t.cdf(t, freedom) if t > 5e-3 else series
    assert student_cdf(t, freedom) == pytest.approx(expected, abs=1e-12)


@given(values)
def test_mean_and_sd_are_scipys(sample):
    found = average(sample)
    assert found.mean == pytest.approx(stats.tmean(sample), abs=1e-9)
    assert found.sd == pytest.approx(stats.tstd(sample))


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=9))
def test_paired_interval_is_scipys(pairs):
    sample, theirs = zip(*pairs, strict=True)
    assume(max(a - b for a, b in pairs) - min(a - b for a, b in pairs) > 1e-3)
    found = paired(dict(enumerate(sample)), dict(enumerate(theirs)) | {99: 5.0})
    expected = stats.ttest_rel(sample, theirs).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)
    assert found.n == len(sample)


def test_one_pair_has_no_interval():
    found = paired({1: 0.9, 2: 0.8}, {2: 0.7, 3: 0.1})
    assert (found.mean, found.low, found.high, found.n) == (pytest.approx(0.1), None, None, 1)
    assert paired({1: 0.9}, {2: 0.7}) is None


def test_sweep(sweep):
    every = records(sweep)
    found = compare(every, "test/accuracy")
    assert counts(every) == {"finished": 24, "failed": 1, "interrupted": 1}
    assert absent(every) == [{"command": "distill", "group": "kd_sweep", "job": 16}]
    assert len(found.rows) == 13
    (baseline,) = [row for row in found.rows if row.baseline]
    assert baseline.difference is None
    (teacher,) = found.teachers.values()
    assert teacher["test/accuracy"] == 0.861
    (best,), (by,) = found.best.values(), found.chosen_by.values()
    assert by == "val/accuracy"
    assert dict(best.setting)["loss.temperature"] == 4
    for row in found.rows:
        runs = select(every, [run.id for run in row.runs])
        mean = sum(run.metrics["test/accuracy"] for run in runs) / len(runs)
        assert row.mean.mean == pytest.approx(mean)
        assert row.kept == pytest.approx(100 * mean / 0.861)
        assert row.baseline or row.against == baseline.label


def test_unfinished_runs_are_in_no_mean(tmp_path):
    write_run(tmp_path, "distill", "a", distill_config(1), {"test/accuracy": 0.5})
    stopped = write_run(tmp_path, "distill", "b", distill_config(2), state="interrupted")
    (stopped / "metrics.json").write_text('{"test/accuracy": 0.9}')
    (row,) = compare(records(tmp_path), "test/accuracy").rows
    assert (row.mean.mean, row.mean.n, row.mean.sd) == (0.5, 1, None)


def test_a_seed_that_ran_twice_counts_once(tmp_path):
    for name, seed, value in [("a", 1, 0.5), ("b", 1, 0.7), ("c", 2, 0.8)]:
        write_run(tmp_path, "distill", name, distill_config(seed), {"test/accuracy": value})
    (row,) = compare(records(tmp_path), "test/accuracy").rows
    assert row.mean.n == 2
    assert math.isclose(row.mean.mean, 0.7)


def test_baseline_shares_the_freezing_policy_where_there_is_one(tmp_path):
    for freeze in ("none", "head"):
        for loss in ("ce", "kd"):
            config = distill_config(1, freeze=freeze, loss=loss)
            write_run(tmp_path, "distill", f"{loss}-{freeze}", config, {"test/accuracy": 0.8 if loss == "kd" else 0.7})
    rows = compare(records(tmp_path), "test/accuracy").rows
    assert {(row.runs[0].id, row.against) for row in rows if not row.baseline} == {
        ("kd-none", "no teacher freeze=none"),
        ("kd-head", "no teacher freeze=head"),
    }


def test_a_baseline_of_another_student_is_no_baseline(tmp_path):
    write_run(tmp_path, "distill", "a", distill_config(1), {"test/accuracy": 0.8})
    other = distill_config(1, loss="ce")
    other["choice"]["student"] = "mlp"
    write_run(tmp_path, "distill", "b", other, {"test/accuracy": 0.7})
    taught = next(row for row in compare(records(tmp_path), "test/accuracy").rows if not row.baseline)
    assert taught.difference is None


def test_less_is_better_puts_the_smallest_first(sweep):
    rows = compare(records(sweep), "test/ece").rows
    assert [row.mean.mean for row in rows] == sorted(row.mean.mean for row in rows)
    assert all(row.kept is None for row in rows)


@pytest.mark.parametrize(
    ("metric", "recorded", "first", "crowned"),
    [
        ("test/fidelity/kl", None, 0.01, True),  # by the metrics that kdlab has
        ("test/rmse", False, 0.01, True),  # by what the runs wrote down
        ("test/applause", True, 3.5, True),
        ("test/applause", None, 3.5, False),
    ],
)
def test_the_best_is_what_the_metric_declares(tmp_path, metric, recorded, first, crowned):
    for name, value in (("a", 0.01), ("b", 3.5)):
        run = write_run(tmp_path, "distill", name, distill_config(1, 1.0 + value), {metric: value})
        if recorded is not None:
            done = json.loads((run / "done.json").read_text())
            done["higher_is_better"] = {metric.removeprefix("test/"): recorded}
            (run / "done.json").write_text(json.dumps(done))
    found = compare(records(tmp_path), metric)
    assert found.rows[0].mean.mean == first
    assert [best.mean.mean for best in found.best.values()] == ([first] if crowned else [])
    assert next(run.metrics[metric] for run in ordered(records(tmp_path), metric)) == first
    assert (metric in payload(found, metric)["less"]) == (first == 0.01)


@pytest.mark.parametrize("loss", ["ce", "kd"])
def test_the_note_states_that_the_run_without_a_teacher_is_not_among_the_best(tmp_path, loss):
    for name, term, val in (("one", "kd", 0.7), ("two", loss, 0.9)):
        config = distill_config(1, temperature=len(term + name), loss=term)
        write_run(tmp_path, "distill", name, config, {"best/val/accuracy": val, "test/accuracy": val})
    note = _note(compare(records(tmp_path), "test/accuracy"))
    assert (AMONG in note) == (loss == "ce")
