"""Online, whatever the server does: the training goes on and ends, nothing is lost, and a later sync makes it whole.

The server is a protocol stub on loopback, not W&B's own.
"""

import json
import os
import subprocess
import sys
import time
from functools import partial

import pytest
from stub import Server

from kdlab.config import conf
from kdlab.logger import session, sync
from kdlab.logger.base import opened
from kdlab.logger.session import services, start
from kdlab.logger.wandb import WandB
from kdlab.logger.wandb_log import logs, read

KEY = "local" + "5ec7e7" * 6 + "0000"
quick = partial(WandB, entity="team", probe_seconds=1, start_seconds=3, finish_seconds=2)


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(sync, "ARRIVE_SECONDS", 1.0)
    monkeypatch.setattr(session, "STOP_SECONDS", 1.0)
    with Server(key=KEY) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server


def strike(server, fate: str) -> None:
    """Let the server meet its fate; "" is its recovery."""
    server.dead, server.broken, server.key = fate == "refused", fate == "broken", "another" if fate == "key" else KEY
    (server.silent.set if fate == "hole" else server.silent.clear)()


def log_rows(journal, begin: int, end: int) -> None:
    for step in range(begin, end):
        for logger in journal.loggers:
            logger.log_metrics({"train/loss": 1 / (step + 1)}, step=step)


def steps(server, run: str) -> list[int]:
    return [row["trainer/global_step"] for row in server.history(run)]


def test_with_a_key_and_a_server_a_run_is_online_and_nothing_is_left(info, server, kdlab, caplog, tmp_path):
    with opened(info(), {"wandb": quick}) as journal:
        log_rows(journal, 0, 10)
    assert steps(server, info().id) == list(range(10))
    assert not [record for record in caplog.records if record.levelname == "WARNING" and "kdlab" in record.name]
    assert kdlab("sync", f"outputs={tmp_path}")[1] == f"nothing to send: 1 runs are whole at {server.url}\n"


@pytest.mark.sampled(0, tried=6)
@pytest.mark.parametrize("mode", ["auto", pytest.param("online", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("fate", "says"),
    [
        ("refused", "cannot be reached"),
        ("hole", "no answer in 1 s"),
        ("key", "refuses the key"),
        ("broken", "answers 500"),
        ("no key", "there is no key"),
    ],
)
def test_a_server_that_is_of_no_use_costs_seconds_and_nothing_else(
    info, server, kdlab, monkeypatch, caplog, tmp_path, fate, says, mode
):
    strike(server, fate)
    if fate == "no key":
        monkeypatch.delenv("WANDB_API_KEY")
    begin = time.perf_counter()
    with opened(info(), {"wandb": partial(quick, mode=mode)}) as journal:
        log_rows(journal, 0, 10)
    assert time.perf_counter() - begin < 5
    (folder,) = tmp_path.glob("wandb/*run-*")
    assert folder.name.startswith("offline-run-")
    assert (says in caplog.text) or (mode, fate) == ("auto", "no key")  # who has no key wants no server
    assert KEY not in caplog.text
    strike(server, "")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    code, out, _ = kdlab("sync", f"outputs={tmp_path}")
    assert code == 0, out
    assert steps(server, info().id) == list(range(10))


@pytest.mark.slow
def test_a_start_that_fails_after_the_server_answered_ends_offline(info, server, monkeypatch, caplog, tmp_path):
    strike(server, "broken")
    monkeypatch.setattr(session.Server, "entity", lambda self: "team")
    begin = time.perf_counter()
    with opened(info(), {"wandb": quick}) as journal:
        log_rows(journal, 0, 3)
    assert time.perf_counter() - begin < 15
    assert "W&B could not begin" in caplog.text
    found = [read(logs(folder)[0]) for folder in tmp_path.glob("wandb/offline-run-*")]
    assert [len(log.history) for log in found] == [3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "fate", ["refused", *(pytest.param(fate, marks=pytest.mark.slow) for fate in ("hole", "broken"))]
)
def test_a_server_that_dies_in_mid_run_stops_nothing(info, server, kdlab, caplog, tmp_path, fate):
    begin = time.perf_counter()
    with opened(info(), {"wandb": quick}) as journal:
        log_rows(journal, 0, 5)
        strike(server, fate)
        log_rows(journal, 5, 10)
        assert time.perf_counter() - begin < 5
    assert time.perf_counter() - begin < 20
    assert "`kdlab sync` sends" in caplog.text
    assert not services()  # none that tries for ever
    (log,) = [read(logs(folder)[0]) for folder in tmp_path.glob("wandb/run-*")]
    assert (len(log.history), log.exit_code, log.problems) == (10, 0, [])
    assert len((info().folder / "history.csv").read_text().splitlines()) == 11
    strike(server, "")
    code, out, _ = kdlab("sync", f"outputs={tmp_path}", "seconds=2")
    assert code == 0, out
    assert steps(server, info().id) == list(range(10))
    assert server.runs[info().id]["exit"] == 0


@pytest.mark.slow
def test_the_process_of_a_training_ends_although_its_server_died(server, tiny, tmp_path):
    server.rows_to_live = 3
    words = ["finetune", *tiny["finetune"], "trainer.max_epochs=1", "trainer.log_every_n_steps=1"]
    words += ["logger.wandb.probe_seconds=1", "logger.wandb.finish_seconds=2"]
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "kdlab", *words], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(conf().parent)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - begin < 60
    (run,) = (tmp_path / "outputs/finetune").iterdir()
    assert json.loads((run / "done.json").read_text())["state"] == "finished"
    assert "`kdlab sync` sends" in (run / "run.log").read_text()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


@pytest.mark.slow
def test_a_folder_of_an_online_start_that_failed_is_no_run(server, tmp_path, monkeypatch, kdlab):
    strike(server, "broken")
    run = start("online", {"start": 2, "finish": 1}, id="r-00000001", dir=str(tmp_path), project="kdlab")
    assert run.offline
    run.log({"train/loss": 1.0})
    run.finish()
    strike(server, "")
    code, out, _ = kdlab("sync", f"outputs={tmp_path}")
    assert code == 0, out
    assert len(server.history("r-00000001")) == 1
