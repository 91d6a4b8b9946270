"""Whole commands into W&B: one run a job, all that a job knows in it, nothing lost in silence, no key in any file."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from kdlab.file import sha256
from kdlab.logger import wandb as module
from kdlab.logger.wandb_log import Log, logs, missing_files, read, settled
from kdlab.module.finetune import Finetune

KEY = "local" + "5ec7e7" * 6 + "0000"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def wandb_logs() -> list[Log]:
    found = [read(logs(folder)[0]) for folder in sorted(Path("outputs/wandb").glob("*run-*-*")) if logs(folder)]
    assert all(not log.problems for log in found)
    return found


def merged(rows: list[dict]) -> dict[int, dict[str, float]]:
    """step -> metrics; a restart and a validation write more rows of one step."""
    steps: dict[int, dict[str, float]] = {}
    for row in rows:
        numbers = {
            name: float(value) for name, value in row.items() if isinstance(value, (int, float)) and name[0] != "_"
        }
        if (step := numbers.pop("trainer/global_step", None)) is not None:
            steps.setdefault(int(step), {}).update(numbers)
    return steps


def curves(run: Path) -> dict[int, dict[str, float]]:
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {int(row.pop("step")): {name: float(text) for name, text in row.items() if text} for row in rows}


def only_run(command: str) -> Path:
    (folder,) = (path.parent for path in Path("outputs", command).glob("*/config.yaml"))
    return folder


@pytest.mark.slow
def test_a_sweep_is_one_whole_wandb_run_a_job_and_one_of_the_teacher(kdlab, tiny):
    words = [*tiny["distill"], "loss.temperature=1,2", "freeze=none,head", "group=pilot", "trainer.log_every_n_steps=3"]
    code, _, err = kdlab("distill", "-m", *words)
    assert code == 0, err
    found = wandb_logs()
    teacher = only_run("finetune")
    students = sorted(path.parent for path in Path("outputs/distill").glob("*/done.json"))
    assert len(found) == 5
    assert {log.run["id"]: log.run["job_type"] for log in found} == {teacher.name: "finetune"} | {
        run.name: "distill" for run in students
    }
    assert {log.run["group"] for log in found} == {"pilot"}
    assert {log.run["project"] for log in found} == {"kdlab"}
    names = {log.run["name"] for log in found if log.run["job_type"] == "distill"}
    assert names == {f"loss.temperature={t},freeze={f}" for t in (1, 2) for f in ("none", "head")}
    assert all(log.run["tags"] == ["table"] and log.exit_code == 0 for log in found)

    weights = {"id": teacher.name, "sha256": sha256(teacher / "model/model.safetensors")}
    made = {
        log.run["id"]: {name: one for name, one in log.artifacts.items() if one["type"] == "model"} for log in found
    }
    output = made[teacher.name][f"model-{teacher.name}"]
    assert not output["input"]
    for log in found:
        run = Path("outputs", log.run["job_type"], log.run["id"])
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["choice"] = {key: str(name) for key, name in config["choice"].items()}
        known = dict(log.config)
        if run != teacher:
            assert known.pop("teacher_run") == weights
            teaches = made[run.name][f"model-{teacher.name}"]
            assert teaches["input"]
            assert teaches["digest"] == output["digest"]
            assert not made[run.name][f"model-{run.name}"]["input"]
            named = {"run_id": weights["id"], "sha256": weights["sha256"]}
            known["teacher"] = {
                key: value for key, value in known["teacher"].items() if key not in named or value != named[key]
            }
        assert known == config  # plain and resolved: no "${", no class, nothing but what the run directory says
        assert "${" not in json.dumps(known)
        ours, theirs = curves(run), merged(log.history)
        for step, row in ours.items():
            assert theirs[step] == pytest.approx(row), step
        metrics = json.loads((run / "metrics.json").read_text())
        assert {name: log.summary[name] for name in metrics} == pytest.approx(metrics)
        assert {"best/val/accuracy", "test/accuracy", "model/parameters", "model/trainable_parameters"} <= set(metrics)
        assert trainable(log)["columns"][:3] == ["block", "parameters", "trainable"]
    frozen = {
        log.config["choice"]["freeze"]: sum(row[2] for row in trainable(log)["data"])
        for log in found
        if log.run["id"] != teacher.name
    }
    assert 0 < frozen["head"] < frozen["none"]

    assert sorted(
        path.name for path in Path("outputs/wandb").glob("*") if path.is_dir() and "run" not in path.name
    ) == ["cache", "data"]
    staged = {file.resolve() for log in found for file in log.staged}
    assert staged
    assert all(file.is_relative_to(Path("outputs").resolve()) for file in staged)
    assert [missing_files(log.path.parent) for log in found] == [[]] * 5
    for file in Path("outputs").rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def trainable(log: Log) -> dict:
    (file,) = (path for path in log.staged if "trainable" in path.name and path.suffix == ".json")
    return json.loads(file.read_text())


@pytest.mark.slow
def test_a_failing_job_ends_its_own_run_with_1_and_the_next_one_with_0(kdlab, tiny):
    code, _, err = kdlab("distill", "-m", *tiny["distill"], "optimizer.lr=1e12,1e-3", "trainer.log_every_n_steps=1")
    assert code != 0
    found = {log.run["name"]: log for log in wandb_logs() if log.run["job_type"] == "distill"}
    assert {name: log.exit_code for name, log in found.items()} == {
        "optimizer.lr=1000000000000.0": 1,
        "optimizer.lr=0.001": 0,
    }
    assert "not whole" not in err
    broken = found["optimizer.lr=1000000000000.0"]
    assert merged(broken.history)
    assert "test/accuracy" not in broken.summary


@pytest.mark.slow
def test_a_resumed_job_goes_on_in_the_same_run(kdlab, tiny, monkeypatch):
    words = [*tiny["finetune"], "trainer.log_every_n_steps=1", "callback.checkpoint.every_n_steps=1"]
    learn = Finetune.training_step

    def stop(self, *values):
        if self.global_step == 11:
            raise RuntimeError("pulled the plug")
        return learn(self, *values)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="plug"):
        patch.setattr(Finetune, "training_step", stop)
        kdlab("finetune", *words)
    code, _, err = kdlab("finetune", *words)
    assert code == 0, err
    first, second = wandb_logs()
    run = only_run("finetune")
    assert first.run["id"] == second.run["id"] == run.name
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert min(step for step, row in merged(second.history).items() if "train/loss" in row) == 11
    both = merged(first.history + second.history)
    ours = curves(run)
    for step, row in ours.items():
        assert both[step] == pytest.approx(row, rel=1e-4), step
    assert [step for step, row in ours.items() if "train/loss" in row] == list(range(16))


@pytest.mark.slow
def test_what_a_full_disk_takes_is_told_and_the_run_is_whole_all_the_same(kdlab, tiny, monkeypatch):
    finish = module.wandb.Run.finish

    def finish_short(self, exit_code=None, **options):
        file = Path(self.settings.sync_file)
        finish(self, exit_code=exit_code, **options)
        assert settled(file, 1, 30) == []
        os.truncate(file, 200)

    monkeypatch.setattr(module.wandb.Run, "finish", finish_short)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.1)
    code, out, _ = kdlab("finetune", *tiny["finetune"])
    assert code == 0
    run = only_run("finetune")
    for told in (out, (run / "run.log").read_text()):
        assert "logged rows are on disk: is the disk full?" in told
        assert "history.csv" in told
    assert json.loads((run / "done.json").read_text())["state"] == "finished"
    assert len(curves(run)) > 0


@pytest.mark.slow
def test_a_lost_staging_folder_is_named_run_by_run(kdlab, tiny):
    assert kdlab("finetune", *tiny["finetune"])[0] == 0
    (log,) = wandb_logs()
    assert missing_files(log.path.parent) == []
    staging = Path("outputs/wandb/data")
    shutil.rmtree(staging, onerror=lambda call, path, error: (Path(path).chmod(0o700), call(path)))
    gone = missing_files(log.path.parent)
    assert gone
    assert all(file.is_relative_to(staging.resolve()) for file in gone)


@pytest.mark.sampled(1, tried=4)
@pytest.mark.parametrize("logger", ["many", "tensorboard", "csv", "none", "[csv,tensorboard]"])
def test_with_every_logger_the_run_directory_is_the_same(kdlab, tiny, logger):
    code, _, err = kdlab("finetune", *tiny["finetune"], f"logger={logger}", "trainer.log_every_n_steps=2")
    assert code == 0, err
    run = only_run("finetune")
    assert curves(run)[15]["train/loss"] > 0
    assert Path("outputs/wandb").exists() == (logger == "many")
    assert bool(list(run.glob("tensorboard/events*"))) == (logger in ("many", "tensorboard", "[csv,tensorboard]"))
    if logger in ("many", "csv", "[csv,tensorboard]"):
        with (run / "csv/metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["train/loss"]]
        assert {int(row["step"]): float(row["train/loss"]) for row in rows} == pytest.approx(
            {step: row["train/loss"] for step, row in curves(run).items() if "train/loss" in row}
        )


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"WANDB_BASE_URL": "http://127.0.0.1:1"}, {"WANDB_MODE": "disabled"}])
def test_a_key_without_a_server_or_wandb_switched_off(kdlab, tiny, monkeypatch, variables):
    monkeypatch.delenv("WANDB_MODE")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, out, err = kdlab("finetune", *tiny["finetune"], "trainer.max_epochs=1")
    assert code == 0, err
    assert KEY not in out + err
    assert len(list(Path("outputs/wandb").glob("offline-run-*"))) == ("WANDB_MODE" not in variables)
