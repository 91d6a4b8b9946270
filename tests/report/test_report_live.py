"""The live view: what runs, waits and has ended, from the run directories alone; it ends by itself."""

import fcntl
import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from synthetic_run import distill_config, write_run

from kdlab.config import conf
from kdlab.queue import Queued
from kdlab.report import live
from kdlab.report.live import Row, Sight, ahead
from kdlab.report.screen import screen


@pytest.fixture
def sweep(tmp_path):
    """Six jobs of one sweep whose driver lives: two finished, one failed, one interrupted, one runs, one waits."""
    states = ("finished", "finished", "failed", "interrupted", "running")
    for job, state in enumerate(states):
        folder = write_run(tmp_path, "distill", f"r{job}", distill_config(1), {"a": 1}, state=state, group="g", job=job)
        (folder / "sweep.json").write_text(json.dumps({"group": "g", "job": job, "sweep": "abc"}))
    (tmp_path / "distill/r4/progress.json").write_text(
        json.dumps({"step": 30, "steps": 120, "epoch": 0, "epochs": 4, "seconds": 10.0, "left": 30.0})
    )
    plan = tmp_path / "distill/.sweeps/abc.json"
    plan.parent.mkdir()
    plan.write_text(json.dumps({"sweep": "abc", "group": "g", "count": 6, "jobs": [f"a={job}" for job in range(6)]}))
    with plan.open() as driver, (tmp_path / "distill/r4/.lock").open() as job:
        fcntl.flock(driver, fcntl.LOCK_EX)
        fcntl.flock(job, fcntl.LOCK_EX)
        yield tmp_path


def printed(rows, **options) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(screen(rows, **options))
    return console.file.getvalue()


def test_every_job_is_shown_in_its_state(sweep):
    rows = Sight(sweep).look()
    assert [(row.state, row.name) for row in rows] == [
        ("running", "r4"), ("failed", "r2"), ("interrupted", "r3"),
        ("queued", "a=5"), ("finished", "r0"), ("finished", "r1"),
    ]  # fmt: skip
    assert rows[0] == Row("r4", "running", 0.25, 30.0, None, "step 30/120  epoch 1/4")
    assert rows[1].note == "OutOfMemory: 80 GiB"
    said = printed(rows)
    assert said.startswith("6 runs: 1 running, 1 failed, 1 interrupted, 1 queued, 2 finished; about 0:01:32 left")
    for told in ("25%", "━━━━────────────", "0:00:30", "OutOfMemory: 80 GiB", "took 0:01:02", "a=5"):
        assert told in said, told


def test_a_second_look_sees_what_changed_and_reads_what_has_ended_once(sweep, monkeypatch):
    sight = Sight(sweep)
    sight.look()
    read = []
    record = live.record
    monkeypatch.setattr(live, "record", lambda folder: read.append(folder.name) or record(folder))
    (sweep / "distill/r4/progress.json").write_text(json.dumps({"step": 60, "steps": 120, "left": 20.0}))
    assert sight.look()[0].part == 0.5
    assert sorted(read) == ["r3", "r4"]
    (sweep / "distill/r2/failed.json").unlink()  # it was begun again
    assert {row.name: row.state for row in sight.look()}["r2"] == "interrupted"
    write_run(sweep, "distill", "r5", distill_config(1), {}, job=5, group="g")
    (sweep / "distill/r5/sweep.json").write_text(json.dumps({"group": "g", "job": 5, "sweep": "abc"}))
    assert not [row for row in sight.look() if row.state == "queued"]


def test_nothing_waits_for_a_driver_that_is_gone(sweep):
    (sweep / "distill/.sweeps/old.json").write_text(
        json.dumps({"sweep": "old", "group": "g", "count": 9, "jobs": ["b"]})
    )
    assert [row.name for row in Sight(sweep).look() if row.state == "queued"] == ["a=5"]


def test_a_search_says_how_many_trials_are_left(sweep):
    plan = sweep / "distill/.sweeps/abc.json"
    with plan.open("r+") as file:  # the driver's lock stays on the file
        file.write(json.dumps({"sweep": "abc", "group": "g", "count": 50, "jobs": []}))
        file.truncate()
    assert [row.name for row in Sight(sweep).look() if row.state == "queued"] == ["g: 45 more"]


@pytest.mark.parametrize(("names", "expected"), [("g", 6), ("r1", 1), (["r1", "r2"], 2), ("r*", 5), ("other", 0)])
def test_runs_are_selected(sweep, names, expected):
    assert len(Sight(sweep, names).look()) == expected


def test_slurm_is_asked_for_what_waits(sweep, monkeypatch):
    (sweep / "distill/.submitit").mkdir()
    jobs = {
        sweep / "distill/r3": Queued("7_0", "PENDING", "(Resources)"),
        sweep / "distill/r4": Queued("7_1", "RUNNING", "n1"),
        sweep / "distill/r9": Queued("7_2", "PENDING", "(Priority)"),
    }
    monkeypatch.setattr(live, "pending", lambda folder: jobs)
    queued = {row.name: row.note for row in Sight(sweep).look() if row.state == "queued"}
    assert queued == {"r3": "(Resources)", "r9": "(Priority)"}
    monkeypatch.setattr(live, "pending", lambda folder: None)  # the controller does not answer
    assert [row.state for row in Sight(sweep).look()].count("queued") == 0


def test_a_low_terminal_counts_what_it_cannot_show(sweep):
    said = printed(Sight(sweep).look(), height=9)
    assert "and 1 queued, 2 finished" in said
    assert len(said.splitlines()) <= 9


def test_names_and_reasons_cannot_steer_the_terminal(tmp_path):
    error = "Error: [red]\x1b[2Jwiped\x07"
    write_run(tmp_path, "distill", "[bold]a", distill_config(1), state="failed", error=error)
    said = printed(Sight(tmp_path).look())
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "[bold]a" in said


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["progress.json", "sweep.json", "../.sweeps/abc.json"]), junk=st.binary(max_size=40))
def test_no_file_stops_the_view(tmp_path_factory, name, junk):
    root = tmp_path_factory.mktemp("outputs")
    folder = write_run(root, "distill", "r", distill_config(1), state="running")
    (root / "distill/.sweeps").mkdir()
    path = folder / name
    path.write_bytes(junk)
    with (folder / ".lock").open() as job, path.open() as driver:
        fcntl.flock(job, fcntl.LOCK_EX)
        fcntl.flock(driver, fcntl.LOCK_EX)
        printed(Sight(root).look())


def test_time_left_counts_what_waits_and_is_silent_where_nothing_tells():
    running = [Row("a", "running", 0.5, 40.0), Row("b", "running", 0.9, 10.0)]
    assert ahead(running) == 40
    finished = Row("c", "finished", 1.0, None, 100.0)
    assert ahead([*running, Row("d", "queued"), Row("e", "queued"), finished]) == 40 + 2 / 2 * 100
    assert ahead([*running, Row("d", "queued")]) is None
    assert ahead([Row("a", "running")]) is None
    assert ahead([finished]) is None


def test_without_a_terminal_it_prints_once(kdlab, sweep, monkeypatch):
    code, out, err = kdlab("runs", "live=true", f"outputs={sweep}")
    assert code == 0, err
    assert out.startswith("6 runs: 1 running")
    code, _, err = kdlab("runs", "live=true", f"outputs={sweep}", "select=other")
    assert (code, "fits none" in err) == (2, True)
    assert kdlab("runs", "live=true", "format=csv", f"outputs={sweep}")[0] == 2


def test_on_a_terminal_it_goes_on_until_all_have_ended(sweep):
    (sweep / "distill/.sweeps/abc.json").unlink()
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kdlab", "runs", "live=true", f"outputs={sweep}", "every=0.1"],
        stdout=follower, stdin=follower, stderr=follower, cwd=sweep,
        env=os.environ | {"PYTHONPATH": str(conf().parent), "TERM": "xterm", "COLUMNS": "110", "LINES": "30"},
    )  # fmt: skip
    os.close(follower)
    said = bytearray()

    def listen():
        try:
            while part := os.read(leader, 4096):
                said.extend(part)
        except OSError:
            pass

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while b"25%" not in said and time.monotonic() < deadline:
        time.sleep(0.05)
    assert b"25%" in said
    assert process.poll() is None
    Path(sweep / "distill/r4/done.json").write_text(json.dumps({"state": "finished", "value": 0.8, "seconds": 40.0}))
    assert process.wait(30) == 0
    thread.join(5)
    assert b"3 finished" in said
    os.close(leader)
