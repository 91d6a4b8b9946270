"""Progress: a bar where a person looks, one log line per epoch anywhere else."""

import io
import logging
import sys
from pathlib import Path

from toy import EPOCHS, Module, fit, trainer

from kdlab.callback.progress import FILE, Progress, watched


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_a_line_per_epoch(caplog, capsys):
    with caplog.at_level(logging.INFO, "kdlab"):
        fit(trainer(False, [Progress(Path("bert-1a2b3c4d"))]), Module())
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("kdlab")]
    assert len(lines) == EPOCHS
    assert all(line.startswith("bert-1a2b3c4d  epoch ") and "val/accuracy" in line for line in lines)
    assert "epoch 3/3  step 18" in lines[-1]
    assert lines[-1].endswith("0:00:00 left")
    assert "\r" not in capsys.readouterr().err


def test_on_a_terminal_one_bar(monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with caplog.at_level(logging.INFO, "kdlab"):
        fit(trainer(False, [Progress(Path("bert-1a2b3c4d"), refresh_seconds=0)]), Module())
    assert "18/18" in terminal.getvalue()
    assert "val/accuracy" in terminal.getvalue()
    assert not [record for record in caplog.records if record.name.startswith("kdlab")]


def test_workers_of_a_sweep_draw_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert watched()
    monkeypatch.setattr("multiprocessing.current_process", lambda: type("P", (), {"name": "LokyProcess-1"})())
    assert not watched()


def test_progress_json_says_how_far_a_run_is_and_is_written_rarely(tmp_path, monkeypatch):
    seen = []

    def write(path, value):
        seen.append(value)
        assert path == tmp_path / FILE

    monkeypatch.setattr("kdlab.callback.progress.write_json", write)
    fit(trainer(False, [Progress(tmp_path, write_seconds=3600)]), Module())
    assert [value["step"] for value in seen] == [0, 6, 12, 18, 18]  # the begin, each epoch, the end
    assert [(value["steps"], value["epochs"]) for value in seen] == [(18, EPOCHS)] * 5
    assert seen[0]["left"] is None
    assert seen[1]["left"] >= seen[2]["left"] >= seen[3]["left"] == 0  # to a tenth of a second
    seen.clear()
    fit(trainer(False, [Progress(tmp_path, write_seconds=0)]), Module())
    assert {value["step"] for value in seen} == set(range(19))


def test_a_progress_json_that_cannot_be_written_stops_nothing(tmp_path):
    fit(done := trainer(False, [Progress(tmp_path / "gone")]), Module())
    assert done.global_step == 18
