"""The line of a local sweep, and how a sweep ends: estimates, and what to do next."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus

from kdlab.launcher import sweep
from kdlab.launcher.status import Status
from kdlab.report.read import Record


def test_a_job_that_takes_longer_than_the_others_leaves_no_estimate_of_nothing():
    status = Status(total=4, slots=1, done=3, took=[5.0, 5.0, 5.0])
    status.begin(3, ["seed=3"])
    status.grant(3)
    assert "0:05 left" in status.text()
    status.running[3].since = time.perf_counter() - 60
    assert status.text() == "3 of 4 done, 1 running, 0 failed"


def test_the_table_names_what_was_swept_of_a_run_that_another_command_made_too():
    """It was given less, and may reach the network: its own words are no difference between the points."""
    config = {"loss": {"temperature": 2.0, "alpha": 0.9}, "choice": {"freeze": "none"}, "freeze": {"_target_": "x"}}
    made = Record(
        "made", Path("made"), "distill", "finished", config=config, overrides=["datamodule=table", "download=true"]
    )
    words = ["datamodule=table", "loss.temperature=4", "+loss.alpha=0.5", "freeze=head"]
    swept = Record("swept", Path("swept"), "distill", "finished", config={}, overrides=words)
    found = sweep.differences([made, swept])
    assert found == {
        "made": "loss.temperature=2, loss.alpha=0.9, freeze=none",
        "swept": "loss.temperature=4, loss.alpha=0.5, freeze=head",
    }


@pytest.mark.parametrize("rerun", [[], ["rerun=true"]])
def test_a_sweep_without_a_finished_run_ends_with_its_own_command(tmp_path, monkeypatch, capsys, rerun):
    monkeypatch.setattr(sys, "argv", ["kdlab distill", "-m", "seed=0,1", "loss.alpha=choice(0.1, 0.2)", *rerun])
    monkeypatch.setattr(sweep, "_begun", [tmp_path / "outputs" / "distill"])
    monkeypatch.setattr(sweep, "_plans", [(tmp_path / "plan").open("w")])
    monkeypatch.setattr(sweep.plan, "count", lambda file: 4)
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sweep.conclude()
    out = capsys.readouterr().out
    assert "4 runs: 4 not started" in out
    assert out.splitlines()[-1] == 'next   kdlab distill -m seed=0,1 "loss.alpha=choice(0.1, 0.2)"'


def test_a_job_whose_run_had_finished_before_says_nothing_of_the_time_that_is_left(tmp_path, capsys):
    status = Status(total=2, slots=1)
    done = tmp_path / "done.json"
    done.write_text(json.dumps({"state": "finished", "value": None, "metric": "val/accuracy"}))
    os.utime(done, (1, 1))
    for number in range(2):
        status.begin(number, [])
        status.grant(number)
        status.receive(number, "run", str(tmp_path))
        status.end(number, JobReturn(status=JobStatus.COMPLETED))
    assert status.took == [] and status.left(time.perf_counter()) is None
    assert status.text().startswith("2 of 2 done (2 before)")
    assert "all 2 runs had already finished. Use rerun=true" in "".join(capsys.readouterr())


def test_a_job_that_was_prepared_and_did_not_train_is_not_started(tmp_path, monkeypatch, capsys):
    for number in range(3):
        folder = tmp_path / "outputs" / "distill" / f"run{number}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"seed: {number}\n")
        (folder / ".lock").touch()
        (folder / "sweep.json").write_text(json.dumps({"sweep": "sweep-1", "group": "g", "job": number}))
    (tmp_path / "outputs/distill/run0/progress.json").write_text("{}")
    monkeypatch.setenv(sweep.SWEEP, "sweep-1")
    monkeypatch.setattr(sweep, "_begun", [tmp_path / "outputs" / "distill"])
    monkeypatch.setattr(sweep, "_plans", [(tmp_path / "plan").open("w")])
    monkeypatch.setattr(sweep.plan, "count", lambda file: 4)
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sweep.conclude()
    out = capsys.readouterr().out
    assert "4 runs: 1 interrupted, 3 not started" in out
    assert "job 0 interrupted" in out and "job 1" not in out
