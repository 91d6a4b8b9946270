"""W&B offline and online: every job its own run, nothing lost in silence, nothing that stops a training."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest
import wandb.util
from lightning.pytorch.loggers import Logger

from kdlab.logger import wandb as module
from kdlab.logger.base import Source, opened
from kdlab.logger.resume_gap import known, lost
from kdlab.logger.sync_plan import sync_plans
from kdlab.logger.wandb import WandB
from kdlab.logger.wandb_log import logs, missing_files, read, settled


def runs(outputs):
    return sorted(
        (read(logs(folder)[0]) for folder in outputs.glob("wandb/*run-*")), key=lambda log: log.path.parent.name
    )


@pytest.fixture
def teacher(tmp_path):
    weights = tmp_path / "finetune" / "teacher-9f8e7d6c" / "model" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights" * 100)
    return Source("teacher-9f8e7d6c", weights, "abc")


def test_what_is_cut_of_a_name_is_told(info, tmp_path, caplog):
    about = info(group="g" * 130, tags=["movies", "t" * 65])
    with caplog.at_level(logging.WARNING, "kdlab"), opened(about, {"wandb": WandB}):
        pass
    (log,) = runs(tmp_path)
    assert log.run["group"] == "g" * 128 and log.run["tags"] == ["movies", "t" * 64]
    assert "128 characters of a group" in caplog.text and "64 characters of a tag" in caplog.text


def test_says_everything_about_a_run(info, tmp_path, teacher):
    about = info(group="sweep", name="a=1", tags=["movies"], config={"loss": {"alpha": 0.5}}, teacher=teacher)
    with opened(about, {"wandb": partial(WandB, project="kd")}) as journal:
        for step in range(3):
            journal.loggers[1].log_metrics({"train/loss": 1.0 / (step + 1), "epoch": 0}, step=step)
        journal.table("confusion", ["negative", "positive"], [[8, 2], [1, 9]])
        journal.curve("roc", {"fpr": [0, 0.5, 1]}, {"tpr": [0, 0.9, 1]})
        journal.summary({"best/val_accuracy": 0.75, "test/accuracy": 0.5})
    (log,) = runs(tmp_path)
    assert not log.problems
    expected = {
        "id": about.id,
        "name": "a=1",
        "project": "kd",
        "group": "sweep",
        "job_type": "distill",
        "tags": ["movies"],
    }
    assert log.run.items() >= expected.items()
    assert log.config == {"loss": {"alpha": 0.5}, "teacher": {"run_id": teacher.id, "sha256": "abc"}}
    assert [row["trainer/global_step"] for row in log.history[:3]] == [0, 1, 2]
    assert [row["train/loss"] for row in log.history[:3]] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert (log.summary["best/val_accuracy"], log.summary["test/accuracy"]) == (0.75, 0.5)
    assert log.artifacts["model-" + teacher.id]["input"]
    assert log.exit_code == 0
    assert journal.recorders[0].problems == []
    assert not missing_files(log.path.parent)


def test_temporary_files_of_a_table_are_in_the_run_directory_and_gone_when_it_is_logged(info, tmp_path, monkeypatch):
    places = []
    real = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda *a, **k: places.append(Path(made := real(*a, **k))) or made)
    with opened(info(), {"wandb": WandB}) as journal:
        places.clear()  # the service has a temporary folder while it starts
        journal.table("confusion", ["a"], [[1]])
        journal.curve("roc", {"fpr": [0, 1]}, {"tpr": [0, 1]})
        assert places and all(place.is_relative_to(info().folder) for place in places)
        assert not list(info().folder.glob("*.part"))


def test_samples_are_a_table_of_each_step_and_are_logged_once(info, tmp_path):
    with opened(info(), {"wandb": WandB}) as journal:
        for step in (4, 9):
            journal.loggers[1].samples("val/samples", ["row", "student"], [[1, "a text"], [2, "我爱"]], step)
    with opened(info(resumed_step=5), {"wandb": WandB}) as journal:  # the first one was logged before the kill
        for step in (4, 9, 14):
            journal.loggers[1].samples("val/samples", ["row", "student"], [[1, "a text"]], step)
    rows = [row for log in runs(tmp_path) for row in log.history]
    assert [row["trainer/global_step"] for row in rows] == [4, 9, 14]
    assert all(row["val/samples"]["ncols"] == 2 for row in rows) and rows[0]["val/samples"]["nrows"] == 2
    assert not list(info().folder.glob("*.part"))
    assert not any(missing_files(log.path.parent) for log in runs(tmp_path))


def test_jobs_of_one_process_never_share_a_run(info, tmp_path):
    with pytest.raises(ZeroDivisionError), opened(info("a-00000001"), {"wandb": WandB}) as journal:
        journal.loggers[1].log_metrics({"train/loss": 1.0}, step=0)
        raise ZeroDivisionError
    left_open = WandB(info("b-00000002"))  # what a job leaves that dies outside of the context manager
    with opened(info("c-00000003"), {"wandb": WandB}) as journal:
        for step in range(2):
            journal.loggers[1].log_metrics({"train/loss": 3.0}, step=step)
    left_open.close(1)
    found = {log.run["id"]: (log.exit_code, len(log.history)) for log in runs(tmp_path)}
    assert found == {"a-00000001": (1, 1), "b-00000002": (1, 0), "c-00000003": (0, 2)}


@pytest.mark.slow
def test_a_restart_under_a_parent_that_logs_itself_begins_again(tmp_path):
    """The parent's service outlives the killed child, with the child's run still open."""
    begin = (
        "import os; from kdlab.logger.session import start;"
        "start('offline', {'start': 9, 'finish': 9}, id='one', dir=os.environ['HERE'])"
    )
    parent = f"""
import subprocess, sys, wandb
wandb.init(mode="offline", dir={str(tmp_path)!r}, settings=wandb.Settings(silent=True))
for last in ("os._exit(9)", "print('began')"):
    print(subprocess.run([sys.executable, "-c", {begin!r} + "; " + last]).returncode)
"""
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, timeout=120,
        env={**os.environ, "HERE": str(tmp_path), "WANDB_MODE": "offline"},
    )  # fmt: skip
    assert done.stdout.split() == ["9", "began", "0"], done.stdout + done.stderr


@pytest.mark.slow
def test_a_restart_has_the_same_id_and_its_own_directory(info, tmp_path):
    for _ in range(2):
        with opened(info(), {"wandb": WandB}) as journal:
            journal.loggers[1].log_metrics({"train/loss": 1.0}, step=0)
        time.sleep(1.1)  # W&B names directories by the second
    assert [log.run["id"] for log in runs(tmp_path)] == [info().id] * 2


@pytest.mark.parametrize("size", [7, 1000, None], ids=["nothing was written", "a part was written", "all was written"])
def test_a_restart_tells_what_the_kill_of_the_whole_job_lost(info, tmp_path, size):
    def go(first, last, **more):
        with opened(info(**more), {"wandb": WandB}) as journal:
            for step in range(first, last):
                for one in journal.loggers:
                    one.log_metrics({"train/loss": 1 / (step + 1), "epoch": step // 10}, step=step)
                    one.log_metrics({"val/loss": float(step), "epoch": step // 10}, step=step)

    go(0, 40)
    (log,) = runs(tmp_path)
    if size is not None:
        os.truncate(log.path, size)
    time.sleep(1.1)  # W&B names directories by the second
    go(20, 25, resumed_step=20)
    rows = [row for log in runs(tmp_path) for row in log.history]
    for name, value in (("train/loss", lambda step: 1 / (step + 1)), ("val/loss", float)):
        told = [(row["trainer/global_step"], row[name], row["epoch"]) for row in rows if name in row]
        assert set(told) >= {(step, value(step), step // 10) for step in range(25)}
        assert len(told) == len(set(told)), "none twice"
    (plan,) = sync_plans(tmp_path, {info().id: frozenset(range(25))})
    assert plan.faults == ()


@pytest.mark.slow
def test_another_value_of_a_step_that_is_done_again_is_told(info, tmp_path):
    for loss, seconds in ((1.0, 3.0), (1.5, 4.0)):  # such as on a GPU that does not give the same bits twice
        with opened(info(), {"wandb": WandB}) as journal:
            journal.loggers[1].log_metrics({"train/loss": loss, "val/loss": 2.0, "perf/seconds": seconds}, step=0)
        time.sleep(1.1)  # W&B names directories by the second
    one, two = (log.history[0] for log in sorted(runs(tmp_path), key=lambda log: log.path))
    assert (one["train/loss"], one["val/loss"], one["perf/seconds"]) == (1.0, 2.0, 3.0)
    assert two["train/loss"] == 1.5 and not {"val/loss", "perf/seconds"} & two.keys()


def test_what_went_to_a_server_is_not_told_twice(info, tmp_path):
    with opened(info(), {"wandb": WandB}) as journal:
        journal.loggers[0].log_metrics({"train/loss": 1.0}, step=0)
    (log,) = runs(tmp_path)
    there = known(tmp_path / "wandb", info().id)
    assert there is not None and lost(there, info().folder / "history.csv")
    log.path.parent.rename(log.path.parent.with_name(log.path.parent.name.removeprefix("offline-")))
    assert known(tmp_path / "wandb", info().id) is None


def test_a_full_disk_is_told(info, monkeypatch, caplog):
    logger = WandB(info())
    for step in range(300):
        logger.log_metrics({"train/loss": 0.1, "val/a-metric-with-a-long-name": 0.2}, step=step)
    file = Path(logger.run.settings.sync_file)
    finish = logger.run.finish

    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.1)

    def finish_short(exit_code):
        finish(exit_code=exit_code)
        assert settled(file, 300, 10) == []
        os.truncate(file, file.stat().st_size // 2)

    logger.run.finish = finish_short
    with caplog.at_level(logging.WARNING, "kdlab"):
        logger.close(0)
    assert any("of 300 logged rows are on disk: is the disk full?" in problem for problem in logger.problems)
    assert "curves are in history.csv" in caplog.text


def test_a_missing_staging_folder_is_found_before_a_sync(info, tmp_path, teacher):
    with opened(info(teacher=teacher), {"wandb": WandB}) as journal:
        journal.table("confusion", ["a"], [[1]])
    (log,) = runs(tmp_path)
    assert tmp_path / "wandb" / "data" in [parent for file in log.staged for parent in file.parents]
    assert missing_files(log.path.parent) == []
    shutil.rmtree(tmp_path / "wandb" / "data", onerror=lambda f, path, e: (Path(path).chmod(0o700), f(path)))
    teacher.weights.unlink()
    gone = missing_files(log.path.parent)
    assert teacher.weights in gone
    assert len(gone) == 2


def test_a_changed_private_call_leaves_the_config(info, tmp_path, teacher, monkeypatch, caplog):
    def changed(self, *args, **kwargs):
        raise TypeError("unexpected keyword argument 'use_after_commit'")

    monkeypatch.setattr("wandb.Run._log_artifact", changed)
    with opened(info(teacher=teacher), {"wandb": WandB}):
        pass
    (log,) = runs(tmp_path)
    assert log.config["teacher"] == {"run_id": teacher.id, "sha256": "abc"}
    assert "in W&B's config only" in caplog.text


def test_a_dead_service_does_not_stop_a_training(info, monkeypatch, caplog):
    logger = WandB(info())
    log = logger.run.log
    monkeypatch.setattr(logger.run, "log", lambda row: (_ for _ in ()).throw(ConnectionResetError("gone")))
    for step in range(3):
        logger.log_metrics({"train/loss": 1.0}, step=step)
    monkeypatch.setattr(logger.run, "log", log)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.1)
    logger.close(0)
    assert caplog.text.count("takes no more rows") == 1
    assert any("0 of 3" in problem for problem in logger.problems)


def test_a_service_that_ended_first_is_one_line_and_not_waited_for(info, monkeypatch, caplog):
    logger = WandB(info())
    monkeypatch.setattr(module, "end", lambda *_: (_ for _ in ()).throw(ConnectionResetError("gone")))
    begin = time.monotonic()
    logger.close(1)
    assert time.monotonic() - begin < 5
    assert [record.exc_info for record in caplog.records if record.name.startswith("kdlab.")] == [None]
    assert "W&B's service ended before the run" in caplog.text
    logger.run.finish()


def test_a_logger_that_cannot_close_hides_no_error(info, caplog):
    class Broken(WandB):
        def close(self, exit_code):
            super().close(exit_code)
            raise OSError("no space left")

    with pytest.raises(ZeroDivisionError), opened(info(), {"wandb": Broken}) as journal:
        assert all(isinstance(logger, Logger) for logger in journal.loggers)
        raise ZeroDivisionError
    assert "Broken.close failed" in caplog.text


def test_what_is_installed_is_read_once_for_all_runs_of_a_process():
    assert wandb.util.working_set() is wandb.util.working_set()
    assert {"torch", "wandb"} <= {package.key for package in wandb.util.working_set()}
