"""The table of runs: any shown name is a name, it fits, texts of a csv are no formulas, and pruning says what goes."""

from __future__ import annotations

import csv
import io
import json
import shlex

import pytest
from rich.console import Console
from synthetic_run import distill_config, write_run

from kdlab.report import records, select
from kdlab.report.compare import compare
from kdlab.report.deploy import classes, quoted
from kdlab.report.table import best, ordered, to_csv, to_terminal


@pytest.mark.parametrize(
    ("name", "key"),
    [("temperature", "loss.temperature"), ("student", "choice.student"), ("run", "id"), ("time", "seconds"),
     ("lr", "optimizer.lr"), ("test", "test/accuracy"), ("ece", "test/ece")],
)  # fmt: skip
def test_a_shown_heading_is_a_column(kdlab, sweep, name, key):
    (one, shown), (two, whole) = (
        (code, out.splitlines()[1:])
        for code, out, _ in (
            kdlab("runs", f"outputs={sweep}", f"columns=[{word}]", "format=csv", "sort=id", "select=kd_sweep")
            for word in (name, key)
        )
    )
    assert (one, two) == (0, 0)
    assert shown == whole
    assert any(shown)


@pytest.mark.parametrize(
    ("word", "said"),
    [("sort=tempereture", "did you mean temperature"), ("sort=nope", "there are id, command"),
     ("columns=[_target_]", "name one of them in full"), ("action=delete", "prune"),
     ("remove=true", "action=prune")],
)  # fmt: skip
def test_what_no_run_has_is_refused(kdlab, sweep, word, said):
    code, out, err = kdlab("runs", f"outputs={sweep}", word)
    assert code == 2
    assert said in err
    assert not out


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_and_says_what_it_left_out(sweep, width):
    console = Console(file=io.StringIO(), width=width)
    to_terminal(ordered(records(sweep)), console, "title")
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "★" in lines[4]
    assert ("left out to fit" in " ".join(lines)) == (width < 120)


def test_the_best_run_is_that_of_validation(tmp_path):
    for name, val, test in (("a", 0.6, 0.5), ("b", 0.5, 0.9)):
        write_run(tmp_path, "distill", name, distill_config(1), {"best/val/accuracy": val, "test/accuracy": test})
    assert [run.id for run in ordered(records(tmp_path))] == ["a", "b"]
    assert {path.name for path in best(records(tmp_path))} == {"a"}
    assert [run.id for run in ordered(records(tmp_path), "test")] == ["b", "a"]


@pytest.mark.parametrize("order", [None, "test", "id"])
def test_of_runs_with_one_validation_value_the_first_to_begin_is_the_best_whatever_the_order(tmp_path, order):
    """Not the one with the best test value, in the table and in the report."""
    for minute, name, test in ((2, "a", 0.9), (1, "b", 0.5), (3, "c", 0.7)):
        metrics = {"best/val/accuracy": 0.6, "test/accuracy": test}
        folder = write_run(tmp_path, "distill", name, distill_config(0, temperature=float(minute)), metrics)
        (folder / "environment.json").write_text(json.dumps({"started": f"2025-03-01T10:0{minute}:00+00:00"}))
    found = ordered(records(tmp_path), order)
    assert {path.name for path in best(found)} == {"b"}
    (row,) = compare(found, "test/accuracy").best.values()
    assert [run.id for run in row.runs] == ["b"]
    console = Console(file=io.StringIO(), width=300)
    to_terminal(found, console, "title")
    assert "2 more have the same value and began later" in console.file.getvalue()


def test_the_star_note_names_what_is_marked_and_leaves_the_run_without_a_teacher_out(tmp_path):
    for name, loss, val in (("alone", "ce", 0.9), ("taught", "kd", 0.7), ("worse", "kd", 0.6)):
        write_run(tmp_path, "distill", name, distill_config(1, loss=loss), {"best/val/accuracy": val})
    for name, val in (("one", 0.95), ("two", 0.94)):
        write_run(tmp_path, "finetune", name, distill_config(1) | {"loss": None}, {"best/val/accuracy": val})
    assert {path.name for path in best(records(tmp_path))} == {"taught", "one"}
    console = Console(file=io.StringIO(), width=300)
    to_terminal(ordered(records(tmp_path)), console, "title")
    text = console.file.getvalue()
    assert "the best finetune run and the best distill run by best/val/accuracy" in text
    assert "the run without a teacher is the reference and is not among them" in text


@pytest.mark.parametrize("by", ["test/accuracy", "test/ece", "val"])
def test_runs_without_a_value_come_last_whichever_way_the_others_are_sorted(tmp_path, by):
    for number in range(3):
        measured = {"best/val/accuracy": 0.1 * number, "test/accuracy": 0.2 * number, "test/ece": 0.3 * number}
        config = distill_config(1)
        config["datamodule"] = {"path": "mine.csv", "text_column": "text"}
        write_run(tmp_path, "distill", f"run{number}", config, measured)
    config["datamodule"]["text_column"] = "nope"  # would be measured on other rows, if it were measured
    write_run(tmp_path, "distill", "a_failed", config, state="failed")
    write_run(tmp_path, "distill", "z_failed", config, state="failed")
    found = ordered(records(tmp_path), by)
    assert {run.id for run in found[-2:]} == {"a_failed", "z_failed"}


def test_every_heading_is_shown_once(tmp_path):
    for number, teacher in enumerate(("one", "two")):
        config = distill_config(1, temperature=number)
        config["teacher"]["run"] = teacher
        config["datamodule"] = {"state": number, "path": "mine.csv"}
        write_run(tmp_path, "distill", f"run{number}", config, {"test/accuracy": 0.5})
    console = Console(file=io.StringIO(), width=200)
    to_terminal(ordered(records(tmp_path)), console, "title")
    heads = console.file.getvalue().splitlines()[2].split()
    assert len(set(heads)) == len(heads)
    assert {"run", "teacher.run", "state", "datamodule.state", "temperature"} <= set(heads)


def test_what_has_no_result_is_on_no_test_set_of_its_own(tmp_path):
    config = distill_config(1) | {"datamodule": {"path": "mine.csv", "text_column": "text"}}
    write_run(tmp_path, "distill", "good", config, {"test/accuracy": 0.5})
    write_run(
        tmp_path, "distill", "bad", config | {"datamodule": {"path": "mine.csv", "text_column": "nope"}}, state="failed"
    )
    console = Console(file=io.StringIO(), width=200)
    to_terminal(ordered(records(tmp_path)), console, "title")
    assert "(set" not in console.file.getvalue()


def test_runs_are_selected_by_a_part_of_their_id_a_state_or_a_sweep(sweep):
    every = records(sweep)
    assert [run.id for run in select(every, every[3].id[-8:])] == [every[3].id]
    assert {run.state for run in select(every, ["failed", "interrupted"])} == {"failed", "interrupted"}
    (folder,) = {run.folder for run in select(every, "failed")}
    (folder / "sweep.json").write_text(json.dumps({"group": "g", "job": 0, "sweep": "c0ffee"}))
    assert [run.folder for run in select(records(sweep), "c0ffee")] == [folder]


@pytest.mark.parametrize("value", ["=1+1", "+x", "-x", "@SUM(A1)", "\t=1"])
def test_a_text_is_no_formula_of_a_spreadsheet(value):
    (_, (shown,)) = csv.reader(io.StringIO(to_csv(["a"], [{"a": value}]), newline=""))
    assert shown == "'" + value
    (head, *_) = csv.reader(io.StringIO(to_csv([value], []), newline=""))
    assert head == ["'" + value]


@pytest.mark.parametrize("value", [-0.5, 3, "a=b", "-0.5", ""])
def test_numbers_and_other_texts_stay_as_they_are(value):
    assert to_csv(["a"], [{"a": value}]).splitlines()[1].strip('"') == str(value)


def folders(outputs):
    return {path.name for path in outputs.glob("*/*")}


@pytest.fixture
def taught(tmp_path):
    write_run(tmp_path, "finetune", "teacher", distill_config(1), state="failed")
    write_run(tmp_path, "finetune", "lone", distill_config(1), state="failed")
    write_run(tmp_path, "distill", "cut", distill_config(1), state="interrupted")
    student = write_run(tmp_path, "distill", "student", distill_config(1), {"test/accuracy": 0.5})
    (student / "teacher.json").write_text(json.dumps({"id": "teacher", "folder": "outputs/finetune/teacher"}))
    return tmp_path


def test_pruning_only_says_what_it_would_free(kdlab, taught):
    before = folders(taught)
    code, out, _ = kdlab("runs", "action=prune", f"outputs={taught}")
    assert code == 0
    assert "would free" in out
    assert "kept: teacher, which taught 1 run that stays (student)" in out
    assert folders(taught) == before


def test_pruning_cuts_no_id_in_two(kdlab, taught, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    name = "a_rather_long_name_of_some_data-layers_of_teacher-kd-none-s0-1f990d75"
    write_run(taught, "distill", name, distill_config(1), state="failed")
    _, out, _ = kdlab("runs", "action=prune", f"outputs={taught}")
    assert name in out


def test_pruning_removes_what_has_no_result_and_teaches_nobody(kdlab, taught):
    code, out, _ = kdlab("runs", "action=prune", "remove=true", f"outputs={taught}")
    assert code == 0
    assert "removed 2 runs" in out
    assert folders(taught) == {"teacher", "student"}


def test_the_teacher_of_a_teacher_that_stays_stays(kdlab, taught):
    write_run(taught, "finetune", "first", distill_config(1), state="failed")
    (taught / "finetune/teacher/teacher.json").write_text(json.dumps({"folder": "outputs/finetune/first"}))
    code, out, _ = kdlab("runs", "action=prune", "remove=true", f"outputs={taught}")
    assert code == 0
    assert "kept: first" in out
    assert folders(taught) == {"first", "teacher", "student"}


def test_a_teacher_may_go_with_all_that_it_taught(kdlab, taught, monkeypatch):
    monkeypatch.chdir(taught.parent)
    code, out, _ = kdlab("runs", "action=prune", "older_days=0", "remove=true", f"outputs={taught.name}")
    assert code == 0
    assert "kept" not in out
    assert folders(taught) == set()


def test_a_teacher_goes_only_where_it_is_named_and_that_is_said(kdlab, taught):
    code, out, _ = kdlab("runs", "action=prune", "select=teacher", "remove=true", f"outputs={taught}")
    assert code == 0
    assert "taught 1 run that stays (student)" in " ".join(out.split())
    assert folders(taught) == {"lone", "cut", "student"}


def test_old_runs_are_pruned_whatever_their_result_and_running_ones_never(kdlab, taught):
    import fcntl
    import os

    for run in taught.glob("*/*"):
        for path in run.iterdir():
            os.utime(path, (0, 0))
    with (taught / "distill/cut/.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, _, _ = kdlab("runs", "action=prune", "older_days=9", "remove=true", f"outputs={taught}")
    assert code == 0
    assert folders(taught) == {"cut"}


def test_results_by_class_are_those_of_the_counts():
    rows = classes({"labels": ["a", "b", "c"], "confusion": [[5, 1, 0], [2, 2, 0], [0, 0, 0]]})
    assert [row["label"] for row in rows] == ["a", "b", "c"]
    assert (rows[0]["precision"], rows[0]["recall"]) == pytest.approx((5 / 7, 5 / 6))
    assert rows[1]["taken_for"] == "a (2)"
    assert (rows[2]["rows"], rows[2]["f1"]) == (0, None)
    (several,) = classes({"labels": ["x"], "confusion": [[[6, 1], [2, 3]]]})
    assert (several["rows"], several["precision"], several["recall"]) == (5, 0.75, 0.6)


@pytest.mark.parametrize(
    "test",
    [
        {},
        {"labels": 3, "confusion": []},
        {"labels": ["a"], "confusion": [["x"]]},
        {"labels": ["a"], "confusion": [[]]},
        {"labels": ["a", "b"], "confusion": [[1], [2, 3]]},
        {"labels": [["a"]], "confusion": [{"a": 1}]},
    ],
)
def test_damaged_counts_are_no_results(test):
    assert classes(test) == []


@pytest.mark.parametrize(
    "word",
    ["a=1", "a=[b,'c d']", "a='$x'", "a='`x`'", "a=\"'b'\"", "a='\\:'", "a='\\\\'", "a='b'\\", "a='!b'", "a=b c", ""],
)
def test_a_repeated_command_gives_the_shell_the_same_words(word):
    assert shlex.split(quoted(word)) == [word]
