"""`kdlab sync`: every run arrives whole and once, whatever happens to the server, and what cannot arrive is named.

The server is a protocol stub on loopback, not W&B's own.
"""

import json
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from stub import Server

from kdlab.logger import sync
from kdlab.logger.base import RunInfo, Source, opened
from kdlab.logger.wandb import WandB
from kdlab.logger.wandb_log import logs

KEY = "local" + "5ec7e7" * 6 + "0000"


@pytest.fixture(autouse=True)
def account(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(sync, "ARRIVE_SECONDS", 1.0)
    monkeypatch.setattr(sync, "PATIENCE_SECONDS", 3.0)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(monkeypatch):
    with Server(key=KEY) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server
        assert server.unknown == []


def train(run: str, begin: int, end: int, command="distill", teacher=None, made=None, mode="offline", **fields) -> Path:
    """What a job of these steps leaves: a run directory and a log of W&B's."""
    info = RunInfo(
        id=run, folder=Path("outputs", command, run), outputs=Path("outputs"), command=command, teacher=teacher,
        resumed_step=begin, **fields,
    )  # fmt: skip
    logger = partial(WandB, entity="team", mode=mode, finish_seconds=2.0)
    with opened(info, {"wandb": logger}) as journal:
        for step in range(begin, end):
            for each in journal.loggers:
                each.log_metrics({"train/loss": 1 / (step + 1)}, step=step)
        journal.table("confusion", ["a", "b"], [[begin, end]])
        journal.summary({"test/accuracy": 0.5})
        if made is not None:
            journal.produce(made)
    info.folder.joinpath("config.yaml").write_text(f"seed: 0\ngroup: {info.group}\n")
    info.folder.joinpath("done.json").write_text('{"state": "finished", "value": 0.5, "seconds": 1.0}')
    return info.folder


def resumed(run: str, *bounds: int, **fields) -> None:
    for begin, end in pairwise(bounds):
        train(run, begin, end, **fields)
        if end != bounds[-1]:
            time.sleep(1.05)  # W&B names directories by the second


def whole(server: Server, run: str, steps: int, restarts: int = 1) -> None:
    rows = server.history(run)
    assert [row["trainer/global_step"] for row in rows if "train/loss" in row] == list(range(steps))
    assert [row["_step"] for row in rows] == list(range(steps + restarts))  # each fragment has a table's row as well
    assert server.runs[run]["exit"] == 0
    assert json.loads(server.runs[run]["lines"]["wandb-summary.json"][0])["test/accuracy"] == 0.5
    made = [artifact for artifact in server.artifacts.values() if artifact["runName"] == run]
    assert made
    assert all(artifact["committed"] for artifact in made)


def sent_rows(server: Server) -> int:
    return sum(name == "stream" for name in server.asked)


@pytest.mark.slow
def test_everything_arrives_once_and_a_second_call_sends_nothing(kdlab, server, tmp_path):
    weights = tmp_path / "outputs/finetune/teacher-9f8e7d6c/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights" * 100)
    teacher = Source("teacher-9f8e7d6c", weights, "abc")
    train(teacher.id, 0, 3, command="finetune", made=teacher)
    resumed("student-1", 0, 20, 35, 40, teacher=teacher, group="sweep")
    train("student-2", 0, 7, teacher=teacher, group="sweep")
    code, out, err = kdlab("sync")
    assert code == 0, out + err
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [
        ["sent", "student-1:"], ["sent", "student-2:"], ["sent", "teacher-9f8e7d6c:"],
    ]  # fmt: skip
    assert out.splitlines()[-1] == f"3 runs at {server.url}: 3 sent"
    whole(server, "student-1", 40, restarts=3)
    whole(server, "student-2", 7)
    whole(server, teacher.id, 3)
    assert {use["input"]["runName"] for use in server.used} == {"student-1", "student-2"}
    before, artifacts = sent_rows(server), len(server.artifacts)
    code, out, _ = kdlab("sync")
    assert (code, out) == (0, f"nothing to send: 3 runs are whole at {server.url}\n")
    assert (sent_rows(server), len(server.artifacts)) == (before, artifacts)
    time.sleep(1.05)
    train("student-2", 7, 9, teacher=teacher, group="sweep")  # it was trained further: only that is sent
    code, out, _ = kdlab("sync")
    assert code == 0
    assert "1 sent, 2 were there already" in out
    whole(server, "student-2", 9, restarts=2)
    assert KEY not in "".join(out)
    assert [path.name for path in Path("outputs/wandb").glob("sync-*")] == []
    assert sorted(path.name for path in Path().iterdir()) == ["outputs"]


@pytest.mark.slow
@pytest.mark.parametrize("rows", [21, *(pytest.param(rows, marks=pytest.mark.slow) for rows in (1, 30))])
def test_a_server_that_dies_in_the_middle_gets_the_rest_with_the_next_call(kdlab, server, rows):
    resumed("student-1", 0, 20, 30)
    train("student-2", 0, 4)
    server.rows_to_live = rows
    code, out, _ = kdlab("sync", "at_once=1", "seconds=1")
    assert code == 1
    assert out.splitlines()[-1] == f"2 runs at {server.url}: 2 left; the same command goes on"
    assert len(server.history("student-1")) == rows
    code, out, _ = kdlab("sync", "seconds=1")  # still dead
    assert code == 1
    assert "left  2 runs" in out
    server.rows_to_live, server.dead = None, False
    code, out, _ = kdlab("sync")
    assert code == 0, out
    whole(server, "student-1", 30, restarts=2)
    whole(server, "student-2", 4)
    assert kdlab("sync")[1].startswith("nothing to send")


@pytest.mark.slow
def test_a_run_that_was_online_until_its_server_died_is_completed(kdlab, server, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    server.rows_to_live = 5
    train("student-1", 0, 12, mode="online")
    assert [folder.name.split("-")[0] for folder in Path("outputs/wandb").glob("*run-*")] == ["run"]
    assert len(server.history("student-1")) == 5
    server.rows_to_live, server.dead = None, False
    code, out, _ = kdlab("sync")
    assert code == 0, out
    whole(server, "student-1", 12)


@pytest.mark.slow
def test_what_is_gone_is_named_before_anything_is_sent(kdlab, server):
    train("student-1", 0, 3)
    train("student-2", 0, 3)
    (folder,) = Path("outputs/wandb").glob("*-student-1")
    (table,) = folder.glob("files/media/table/*.json")
    table.unlink()
    code, out, _ = kdlab("sync")
    assert code == 1
    assert f"left  student-1: files that {folder.name} names are gone: " in out
    assert table.name in out
    assert "missing=send" in out
    assert "student-1" not in server.runs
    whole(server, "student-2", 3)
    code, out, _ = kdlab("sync", "missing=send", "select=student-1")
    assert len(server.history("student-1")) == 4
    assert code == 0, out


def test_a_lost_staging_folder_and_a_changed_file_are_found(kdlab, server):
    train("student-1", 0, 3)
    staged = [path for path in Path("outputs/wandb/data").rglob("*") if path.is_file()]
    assert staged
    for path in staged:
        path.chmod(0o600)
        path.write_bytes(path.read_bytes() + b" ")
    assert "of another size than when they were logged" in kdlab("sync")[1]
    shutil.rmtree("outputs/wandb/data", onerror=lambda call, path, error: (Path(path).chmod(0o700), call(path)))
    code, out, _ = kdlab("sync")
    assert code == 1
    assert "are gone" in out
    assert server.runs == {}


@pytest.mark.slow
def test_rows_that_a_full_disk_took_are_counted_against_history_csv(kdlab, server):
    train("student-1", 0, 40)
    (log,) = logs(next(Path("outputs/wandb").glob("*-student-1")))
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    code, out, _ = kdlab("sync")
    assert code == 1
    assert "of 40 steps in history.csv are in none of its W&B logs" in out
    assert server.runs == {}
    assert kdlab("sync", "missing=send")[0] == 0
    rows = [row["trainer/global_step"] for row in server.history("student-1")]
    assert rows == list(range(len(rows)))
    assert 0 < len(rows) < 40


@pytest.mark.slow
def test_a_log_that_a_kill_cut_short_is_sent_as_far_as_it_goes(kdlab, server):
    folder = train("student-1", 0, 40)
    (log,) = logs(next(Path("outputs/wandb").glob("*-student-1")))
    log.write_bytes(log.read_bytes()[:-300])
    lines = (folder / "history.csv").read_text().splitlines()
    code, out, _ = kdlab("sync")
    assert code == 0, out
    rows = [row["trainer/global_step"] for row in server.history("student-1") if "train/loss" in row]
    assert rows == list(range(len(lines) - 1))
    assert server.runs["student-1"]["exit"] == 1


@pytest.mark.slow
def test_runs_are_selected_and_checked_without_sending(kdlab, server):
    train("student-1", 0, 2, group="sweep")
    train("student-2", 0, 2, group="other")
    code, out, _ = kdlab("sync", "check=true")
    assert code == 1
    assert "left  student-1: the run is not there" in out
    assert server.runs == {}
    assert kdlab("sync", "select=sweep")[0] == 0
    assert list(server.runs) == ["student-1"]
    shutil.rmtree("outputs/distill/student-2")  # its log is enough
    assert kdlab("sync", "select='student-*'")[0] == 0
    assert len(server.runs) == 2


@pytest.mark.slow
def test_a_run_that_still_runs_is_left_for_later(kdlab, server):
    from kdlab.file import lock

    folder = train("student-1", 0, 2)
    (folder / "done.json").unlink()
    with lock(folder / ".lock", "a run"):
        code, out, _ = kdlab("sync")
    assert code == 1
    assert "left  student-1: it still runs" in out
    assert kdlab("sync")[0] == 0


@pytest.mark.parametrize(
    ("what", "says"), [("refused", "cannot be reached"), ("hole", "no answer in 1 s"), ("key", "refuses the key")]
)
def test_without_a_server_that_answers_everything_is_left_soon(kdlab, server, monkeypatch, what, says):
    train("student-1", 0, 2)
    if what == "refused":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    elif what == "hole":
        server.silent.set()
    else:
        server.key = "another"
    start = time.perf_counter()
    code, out, err = kdlab("sync", "seconds=1")
    assert time.perf_counter() - start < 4
    assert code == 1
    assert says in out
    assert "1 left" in out
    assert KEY not in out + err
    server.silent.clear()
    server.key = KEY


@pytest.mark.slow
def test_a_server_that_falls_silent_while_it_is_sent_to_is_left_alone(kdlab, server, monkeypatch):
    train("student-1", 0, 2)
    real = Server.stream

    def stream(self, *values):
        real(self, *values)
        self.silent.set()

    monkeypatch.setattr(Server, "stream", stream)
    code, out, _ = kdlab("sync", "seconds=1")
    server.silent.clear()
    assert code == 1
    assert "no answer in 1 s" in out
    monkeypatch.setattr(Server, "stream", real)
    assert kdlab("sync")[0] == 0
    whole(server, "student-1", 2)


@pytest.mark.slow
def test_two_syncs_at_once_send_everything_once(kdlab, server, tmp_path):
    train("student-1", 0, 5)
    results = []

    def work():
        results.append(subprocess.run([sys.executable, "-m", "kdlab", "sync"], capture_output=True, text=True))

    threads = [threading.Thread(target=work) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [done.returncode for done in results] == [0, 0], results
    whole(server, "student-1", 5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missing=maybe"], "must be one of refuse, send"),
        (["at_once=0"], "a whole number from 1 up"),
        (["select=nothing"], "fits none of the 1 runs"),
        (["outputs=nowhere"], "There is no folder"),
        (["chek=true"], "chek"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(kdlab, server, words, says):
    train("student-1", 0, 1)
    code, _, err = kdlab("sync", *words)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_without_a_key_it_says_how_to_get_one(kdlab, server, monkeypatch):
    train("student-1", 0, 1)
    monkeypatch.delenv("WANDB_API_KEY")
    code, _, err = kdlab("sync")
    assert code == 2
    assert "WANDB_API_KEY" in err
