"""A run's identity, lock and directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.artifact.run import claim, read_done
from kdlab.config.identity import data_name, identity, resolved, slug
from kdlab.config.stored import read_config
from kdlab.error import UserError

leaves = st.one_of(
    st.integers(-9, 9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text("ab1", max_size=5),
    st.booleans(),
    st.none(),
)
configs = st.dictionaries(
    st.text("abcxyz", min_size=1, max_size=4), leaves | st.dictionaries(st.text("pqr", min_size=1), leaves), max_size=5
)


@given(configs)
def test_identity_ignores_the_order_of_keys_and_what_cannot_change_the_result(config):
    reversed_ = dict(reversed(config.items()))
    assert identity(config) == identity(reversed_)
    neutral = {"outputs": "/elsewhere", "logger": {"wandb": 1}, "rerun": True, "cluster": {"threads": 1}, "group": "g"}
    neutral |= {"download": True}
    assert identity(config | neutral) == identity(config)


@given(configs, st.integers(100, 200))
def test_identity_changes_with_any_value(config, value):
    assert identity(config | {"alpha": value}) != identity(config | {"alpha": value + 1})
    assert identity(config | {"alpha": value}) != identity(config | {"alpha": value + 0.5})
    assert identity(config | {"loss": {"alpha": value}}) != identity(config | {"loss": {"alpha": -value}})


def test_two_and_two_point_zero_are_the_same_number_and_true_is_not_one():
    assert identity({"t": 2}) == identity({"t": 2.0}) != identity({"t": "2"})
    assert identity({"t": True}) != identity({"t": 1})


def test_a_file_stands_for_its_content(tmp_path):
    one, two = tmp_path / "a.csv", tmp_path / "b.csv"
    one.write_text("x")
    two.write_text("x")
    same = identity({"datamodule": {"path": str(one)}})
    assert identity({"datamodule": {"path": str(two)}}) == same
    two.write_text("yy")
    assert identity({"datamodule": {"path": str(two)}}) != same


def test_one_batch_is_not_all_batches():
    """1.0 is a fraction to the trainer and 1 a count: the run of a debug preset must not stand for the whole one."""
    one, whole = ({"trainer": {"limit_train_batches": value, "max_epochs": 1}} for value in (1, 1.0))
    assert identity(one) != identity(whole)


def test_a_failed_run_says_why_and_is_not_done(tmp_path):
    with pytest.raises(ValueError, match="boom"), claim(tmp_path / "run") as run:
        run.begin({"seed": 0}, [])
        raise ValueError("boom\nsecond line")
    assert json.loads((tmp_path / "run/failed.json").read_text())["error"] == "boom"
    assert read_done(tmp_path / "run") is None


def test_what_becomes_known_of_the_machine_is_added(tmp_path):
    with claim(tmp_path / "run") as run:
        run.begin({"seed": 3}, [])
        before = json.loads((tmp_path / "run/environment.json").read_text())
        run.note(gpu="NVIDIA H200")
    assert json.loads((tmp_path / "run/environment.json").read_text()) == before | {"gpu": "NVIDIA H200"}


def test_done_is_written_last_and_metrics_are_finite(tmp_path):
    with claim(tmp_path / "run") as run:
        run.begin({"seed": 0}, ["a=1"])
        assert not (tmp_path / "run/failed.json").exists()
        run.finish(0.5, "val/accuracy", 1.0, {"a": 1, "b": float("nan"), "c": float("inf")}, {"a": True})
    assert json.loads((tmp_path / "run/metrics.json").read_text()) == {"a": 1.0}
    assert read_done(tmp_path / "run")["value"] == 0.5


def test_rerun_starts_from_an_empty_directory(tmp_path):
    with claim(tmp_path / "run") as run:
        run.finish(0.5, "val/accuracy", 1.0, {}, {})
        (tmp_path / "run/checkpoints").mkdir()
    with claim(tmp_path / "run", rerun=True) as run:
        assert run.done is None
        assert not (tmp_path / "run/checkpoints").exists()


WRITER = """
import sys, time
from pathlib import Path
from kdlab.artifact.run import claim
with claim(Path(sys.argv[1])) as run:
    done = run.done
    if done is None:
        with open(sys.argv[1] + "/log", "a") as log: log.write("begin\\n")
        time.sleep(0.5)
        with open(sys.argv[1] + "/log", "a") as log: log.write("end\\n")
        run.finish(1.0, "val/accuracy", 0.5, {}, {})
"""


def test_two_concurrent_jobs_of_one_run_do_it_once(tmp_path):
    jobs = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "run")], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    assert (tmp_path / "run/log").read_text() == "begin\nend\n"


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = WRITER.replace("time.sleep(0.5)", "print('in', flush=True); time.sleep(60)")
    job = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert job.stdout.readline() == b"in\n"
    os.kill(job.pid, 9)
    job.wait()
    start = time.monotonic()
    with claim(tmp_path / "run") as run:
        assert run.done is None
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("content", ["", "[1, 2]", "{unclosed", "\x00\x01"])
def test_a_damaged_config_is_one_sentence(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("option", "node", "name"),
    [
        ("table", {"path": "../mine/tweets.csv"}, "tweets"),
        ("table", {"path": "C:\\data\\My tweets (2024).v2.csv.gz"}, "My_tweets_2024"),
        ("table", {"path": "评论.csv"}, "table"),  # W&B takes no other letters
        ("hub", {"name": "stanfordnlp/imdb"}, "imdb"),
        ("movie_reviews", {"path": "x.csv"}, "movie_reviews"),
        ("table", {}, "table"),
        (None, None, None),
    ],
)
def test_data_are_called_by_their_option_or_their_file(option, node, name):
    assert data_name({"datamodule": option}, {"datamodule": node}) == name


def test_an_id_begins_with_the_name_of_the_data():
    assert slug({"datamodule": "table", "loss": "kd"}, 0, "tweets") == "tweets-kd-s0"


def test_a_run_is_named_by_any_end_or_beginning_that_is_its_own():
    ids = ["tweets-kd-s0-d4f03024", "tweets-kd-s1-06d8928d", "tweets-ce-s0-16d8928d"]
    assert resolved("d4f03024", ids) == ids[0]
    assert resolved("06d8928d", ids) == ids[1]
    assert resolved("tweets-ce", ids) == ids[2]
    assert resolved(ids[1], ids) == ids[1]
    assert resolved("nope", ids) is None
    with pytest.raises(UserError, match=r"2 run ids .*tweets-ce-s0-16d8928d, tweets-kd-s1-06d8928d"):
        resolved("6d8928d", ids)


@pytest.mark.parametrize("attack", ["monitor", "filter", "hook"])
def test_asking_for_the_commit_runs_nothing_that_a_repository_names(tmp_path, monkeypatch, attack):
    from kdlab.artifact.run import _git

    monkeypatch.chdir(tmp_path)
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    script.chmod(0o755)

    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *words], check=True, capture_output=True)

    git("init", "repository")
    monkeypatch.chdir("repository")
    Path("file").write_text("one")
    Path(".gitattributes").write_text("file filter=evil\n" if attack == "filter" else "")
    git("add", "-A")
    git("commit", "-m", "x")
    _git.cache_clear()
    assert _git() == {"sha": _git()["sha"], "dirty": False}
    Path("file").write_text("two")
    if attack == "filter":  # git compares the content of a file that is as old as its index
        os.utime("file", ns=(Path(".git/index").stat().st_mtime_ns,) * 2)
    if attack == "monitor":
        git("config", "core.fsmonitor", str(script))
    elif attack == "filter":
        git("config", "filter.evil.clean", str(script))
    else:
        for name in ("post-index-change", "post-checkout", "fsmonitor-watchman"):
            Path(f".git/hooks/{name}").symlink_to(script)
    _git.cache_clear()
    assert _git()["dirty"] is True
    assert not (tmp_path / "ran").exists()
    Path("file").write_text("one")
    Path("new").write_text("")
    _git.cache_clear()
    assert _git()["dirty"] is True
    _git.cache_clear()


LINKS = ["checkpoints", "model", "history.csv", "run.log", "checkpoints/last.ckpt"]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("rerun", [False, True])
def test_nothing_is_written_through_a_link_in_a_run_directory(tmp_path, name, rerun):
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.symlink_to(outside)
    with pytest.raises(UserError, match=rf"{name} is a link"), claim(tmp_path / "run", rerun=rerun):
        pass
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", [".lock", ".lock.wanted", "run.log"])
@pytest.mark.parametrize("kind", ["link", "dangling", "fifo"])
def test_what_is_no_file_of_kdlabs_own_is_neither_written_nor_waited_for(tmp_path, name, kind):
    from kdlab.file import OwnLog, _own

    path, outside = tmp_path / name, tmp_path / "outside"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(outside)
    if kind == "link":
        outside.write_text("mine")
    with pytest.raises(UserError, match="delete it"):
        OwnLog(path) if name == "run.log" else _own(path)
    assert outside.exists() == (kind == "link")
    assert kind != "link" or outside.read_text() == "mine"


def test_a_run_is_found_by_every_sweep_that_it_was_a_job_of(tmp_path):
    from kdlab.artifact.run import enroll
    from kdlab.launcher.sweep import members
    from kdlab.report.pick import select
    from kdlab.report.read import record

    folder = tmp_path / "distill" / "a"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "sweep.json").write_text('{"sweep": "old", "job": 3, "group": "g"}')  # as it was written before
    for name in ("one", "two", "one"):
        enroll(folder, {"sweep": name, "job": 1, "swept": [], "group": "g"})
    found = record(folder)
    assert found.sweeps == ("one", "two", "old") and found.job == 1
    for name in found.sweeps:
        assert [one.id for one in members(tmp_path / "distill", name)] == ["a"]
        assert [one.id for one in select([found], name)] == ["a"]
    (folder / "sweep.json").write_text('{"sweep": 5, "sweeps": 7}')
    assert record(folder).sweeps == () == tuple(members(tmp_path / "distill", "x"))


def test_a_sweep_that_goes_on_has_the_name_that_was_printed(tmp_path):
    from kdlab.launcher.sweep import name_of

    words = ["datamodule=table", "datamodule.path=mine.csv", "loss.temperature=1,2"]
    name = name_of("distill", words)
    assert name == name_of("distill", [*words[::-1], "rerun=true", "check=false"])
    others = {
        name_of("finetune", words),
        name_of("distill", words[:2]),
        name_of("distill", [*words[:2], "loss.temperature=1"]),
    }
    assert name not in others and len(others) == 3
