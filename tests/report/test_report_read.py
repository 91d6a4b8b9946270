"""The reader says how each run ended, and survives anything that may stand in its files."""

import fcntl
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_run import distill_config, write_run

from kdlab.report import differing, record, records, select, swept
from kdlab.report.parse import UnreadableError, parse_history, parse_json, parse_yaml
from kdlab.report.read import STATES

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FILES = ("config.yaml", "metrics.json", "history.csv", "done.json", "overrides.yaml", "sweep.json", "environment.json")


def test_every_end_of_a_run_is_told_apart(tmp_path):
    for state in ("finished", "failed", "interrupted", "running"):
        write_run(tmp_path, "distill", state, distill_config(1), {"test/accuracy": 0.5}, state=state)
    write_run(tmp_path, "distill", "resumed", distill_config(1), state="failed")
    write_run(tmp_path, "distill", "broken", distill_config(1)).joinpath("metrics.json").write_text('{"test/acc')
    (tmp_path / "store" / "targets").mkdir(parents=True)
    with (tmp_path / "distill/running/.lock").open() as one, (tmp_path / "distill/resumed/.lock").open() as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        fcntl.flock(two, fcntl.LOCK_EX)
        found = {run.id: run for run in records(tmp_path)}
    states = {name: run.state for name, run in found.items()}
    assert states == {
        "finished": "finished",
        "failed": "failed",
        "interrupted": "interrupted",
        "running": "running",
        "resumed": "running",
        "broken": "unreadable",
    }
    assert found["failed"].reason == "OutOfMemory: 80 GiB"
    assert found["failed"].seconds == 9
    assert "metrics.json" in found["broken"].reason
    assert found["finished"].seconds == 61.5
    assert found["finished"].choice["freeze"] == "none"
    assert record(tmp_path / "distill/running").state == "interrupted"  # the lock was given back


def test_nothing_there_is_no_run(tmp_path):
    assert records(tmp_path / "nowhere") == []


@quick
@given(name=st.sampled_from(FILES), cut=st.floats(0, 1), junk=st.binary(max_size=30), data=st.data())
def test_no_altered_file_stops_the_reader(tmp_path_factory, name, cut, junk, data):
    folder = tmp_path_factory.mktemp("run")
    run = write_run(folder, "distill", "a", distill_config(1), {"test/accuracy": 0.5}, [{"step": 1, "val/loss": 2.0}])
    file = run / name
    whole = file.read_bytes() if file.exists() else b"{}"
    at = int(cut * len(whole))
    file.write_bytes(whole[:at] + junk + (whole[at:] if data.draw(st.booleans()) else b""))
    (found,) = records(folder)
    assert found.state in STATES
    assert all(math.isfinite(value) for value in found.metrics.values())
    assert "\n" not in found.reason
    json.dumps([found.config, found.metrics, found.history, found.reason]).encode()
    differing([found, found])


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "- " * 50_000,
        "{a: " * 50_000,
        "a: &a [*a]",
        "a0: &a0 [x, x, x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}, *a{i}, *a{i}]\n" for i in range(20)),
        "a0: &a0 {x: 1}\n" + "".join(f"a{i + 1}: &a{i + 1} {{<<: [*a{i}, *a{i}]}}\n" for i in range(40)),
        "a: !!python/object/apply:os.system ['exit 1']",
        "? [1, 2]\n: 3",
        "a: " + "9" * 5000,
        "a: 2025-99-99",
        "just text",
        "a: 1\n---\nb: 2",
        "\x00",
    ],
    ids=lambda text: text[:18],
)
def test_hostile_yaml_is_refused(text):
    with pytest.raises(UnreadableError):
        parse_yaml(text, "config.yaml", dict)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", "{", '{"a": ' * 50_000, "9" * 5000, ""], ids=lambda text: text[:9]
)
def test_hostile_json_is_refused(text):
    with pytest.raises(UnreadableError):
        parse_json(text, "metrics.json")


def test_only_finite_numbers_are_metrics(tmp_path):
    run = write_run(tmp_path, "distill", "a", distill_config(1))
    (run / "metrics.json").write_text(
        '{"a": 1, "b": NaN, "c": Infinity, "d": "x", "e": null, "f": true, "g": 1e999, "h": 0.5, "i": 1e200}'
    )
    assert record(run).metrics == {"a": 1, "h": 0.5}


def test_a_line_still_being_written_is_left_out():
    text = "step,epoch,train/loss,val/accuracy\n1,0.5,0.7,\n2,1.0,0.6,0.8\n3,1.5,0.1"
    assert parse_history(text, "history.csv") == {
        "step": [1, 2],
        "epoch": [0.5, 1.0],
        "train/loss": [0.7, 0.6],
        "val/accuracy": [None, 0.8],
    }


@pytest.mark.slow
@quick
@given(st.text('0,1.\n"e x\r\x00', max_size=60) | st.text(max_size=20))
def test_any_text_is_a_history_or_a_refusal(text):
    try:
        columns = parse_history(text, "history.csv")
    except UnreadableError:
        return
    assert len({len(column) for column in columns.values()}) <= 1
    assert all(value is None or math.isfinite(value) for column in columns.values() for value in column)


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    run = write_run(tmp_path, "distill", "a", distill_config(1), state="failed")
    (run / "failed.json").write_text(json.dumps({"type": "E", "error": "\x1b[31mred\nand \ud800 more"}))
    reason = record(run).reason
    assert "\x1b" not in reason
    assert "\n" not in reason
    reason.encode()


def test_selection(sweep):
    every = records(sweep)
    assert len(every) == 26
    assert {run.command for run in select(every, "finetune/*")} == {"finetune"}
    assert len(select(every, "kd_sweep")) == 25
    assert len(select(every, group="kd_*", command="distill")) == 25
    assert [run.id for run in select(every, [every[3].id, every[0].id])] == [every[0].id, every[3].id]
    assert select(every, "nothing") == []
    assert select(every) == every


def test_a_single_run_joins_its_group_without_being_a_job_of_it(tmp_path):
    write_run(tmp_path, "distill", "a", distill_config(1) | {"group": "pilot"}, {"test/accuracy": 0.8})
    write_run(tmp_path, "distill", "b", distill_config(2), {"test/accuracy": 0.8}, group="pilot", job=3)
    found = select(records(tmp_path), "pilot")
    assert [(run.id, run.job) for run in found] == [("a", None), ("b", 3)]


def test_what_differs_is_what_was_swept(sweep):
    runs = select(records(sweep), command="distill")
    assert {"choice.freeze", "loss.alpha", "loss.temperature", "freeze.start"} <= set(differing(runs))
    assert "seed" not in differing(runs)
    assert "outputs" not in differing(runs)
    taught = [run for run in runs if run.choice["loss"] == "kd"]
    assert swept(taught) == ["choice.freeze", "loss.alpha", "loss.temperature"]


def test_two_is_two_point_zero(tmp_path):
    for name, value in [("a", 2), ("b", 2.0)]:
        write_run(tmp_path, "distill", name, {"loss": {"temperature": value}, "optimizer": {"lr": 1}})
    assert differing(records(tmp_path)) == []
    write_run(tmp_path, "distill", "c", {"loss": {"temperature": 2.5}, "optimizer": {"lr": True}})
    assert differing(records(tmp_path)) == ["loss.temperature", "optimizer.lr"]
