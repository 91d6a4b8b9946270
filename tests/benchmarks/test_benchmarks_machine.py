"""Processes are measured as they are: their time, their peak, their threads, their answer."""

from __future__ import annotations

import sys
import time

import pytest

from tests.benchmarks import machine
from tests.benchmarks.clock import step_seconds
from tests.benchmarks.growth import texts
from tests.benchmarks.start import waits


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_BENCHMARK", str(tmp_path))


def test_time_peak_and_answer_of_a_process():
    code = "import time, json; x = bytearray(80_000_000); time.sleep(0.3); print('talk'); print(json.dumps({'a': 1}))"
    done = machine.alone([sys.executable, "-c", code])
    assert 0.3 < done.seconds < 20
    assert 80 < done.peak_mb < 200
    assert done.answer == {"a": 1}


def test_two_processes_run_at_the_same_time():
    # each waits for the other's file: one after the other would never end
    code = "import sys, time, pathlib; pathlib.Path(sys.argv[1]).touch(); end = time.time() + 20\n"
    code += "while not pathlib.Path(sys.argv[2]).exists():\n  time.sleep(0.01); assert time.time() < end"
    one, two = (str(machine.results() / name) for name in ("one", "two"))
    machine.together([[sys.executable, "-c", code, *names] for names in ((one, two), (two, one))])


def test_a_failed_process_says_why():
    with pytest.raises(RuntimeError, match="no such luck"):
        machine.alone([sys.executable, "-c", "raise SystemExit('no such luck')"])


def test_threads_are_set_or_left_to_the_library(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in machine.environment(None)
    assert machine.environment(1)["OMP_NUM_THREADS"] == "1"


def test_the_last_object_is_the_answer():
    assert machine.last_object('{"a": 1}\n{"b": 2}\nbye\n{broken') == {"b": 2}
    with pytest.raises(ValueError, match="no JSON"):
        machine.last_object("hello")


def test_a_step_is_counted_between_the_ends_of_batches():
    assert step_seconds([5.0, 6.0, 7.5]) == 1.25


def test_growing_texts_have_their_length_and_vocabulary(tmp_path):
    lines = texts(tmp_path, 10, 300, 100).read_text().splitlines()[1:]
    rows = [line.split(",")[0].split() for line in lines]
    assert {len(row) for row in rows} == {11}
    assert len({word for row in rows for word in row}) == 300 + 2


def test_written_results_name_the_machine():
    path = machine.write("x", {"speed": 2})
    assert machine.last_object(" ".join(path.read_text().split()))["machine"]["cores"] >= 1
    assert time.time() - path.stat().st_mtime < 60


@pytest.mark.parametrize(
    ("firsts", "ends", "expected"),
    [
        ([1.0, 4.5, 9.0], [4.0, 8.0, 12.0], [0.5, 1.0]),  # one after the other
        ([1.0, 1.5, 5.25, 6.5], [5.0, 6.0, 9.0, 9.5], [0.25, 0.5]),  # two at a time
    ],
)
def test_a_later_job_waits_for_the_one_whose_place_it_takes(firsts, ends, expected) -> None:
    assert waits(firsts, ends) == pytest.approx(expected)
    assert waits(firsts[::-1], ends[::-1]) == pytest.approx(expected)
