"""Progress: a bar where a person looks, one line an epoch anywhere else."""

import io
import logging
import os
import re
import sys
from pathlib import Path

import pytest
from toy import EPOCHS, Loader, Module, fit, trainer

from kdlab import terminal
from kdlab.callback.checkpoint import Checkpoint
from kdlab.callback.progress import FILE, Progress

ID = "table-bert_tiny-a_long_name_of_a_run-1a2b3c4d"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def speaking(monkeypatch):
    monkeypatch.setattr("multiprocessing.current_process", lambda: type("P", (), {"name": "MainProcess"})())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(logging.getLogger("kdlab.callback.progress"), "disabled", False)  # as Hydra leaves it elsewhere
    for handler in list(logging.getLogger().handlers):  # of a command that ended in this process
        if getattr(getattr(handler, "stream", None), "closed", False):
            logging.getLogger().removeHandler(handler)


def frames(text):
    """What was drawn, one after the other."""
    return [frame.partition("\x1b")[0] for frame in re.split(r"[\r\n]", text) if frame.strip("\x1b[K")]


def run(**options):
    module = Module()
    done = fit(trainer(False, [Progress(Path(ID), **options)]), module)
    done.test(module, Loader(), verbose=False, weights_only=True)


def test_without_a_terminal_a_line_per_epoch(caplog, capsys):
    with caplog.at_level(logging.INFO, "kdlab"):
        run()
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("kdlab")]
    said = capsys.readouterr().err.splitlines()
    assert said == [*logged, "test: 6 batches"]
    assert len(logged) == EPOCHS
    assert all(line.startswith(f"epoch {n}/3  step {6 * n}/18") for n, line in enumerate(logged, 1))
    assert all("val/accuracy" in line for line in logged)
    assert logged[-1].endswith("0:00 left")


@pytest.mark.parametrize("columns", [0, 50, 80, 120])
def test_on_a_terminal_one_bar_that_fits_and_names_what_is_done(monkeypatch, caplog, columns):
    monkeypatch.setattr(sys, "stderr", drawn := Terminal())
    size = os.terminal_size((columns, 24))
    monkeypatch.setattr("os.get_terminal_size", lambda *_: size)
    monkeypatch.setattr(Terminal, "fileno", lambda _: 2)
    with caplog.at_level(logging.INFO, "kdlab"):
        run(refresh_seconds=0)
    seen = frames(drawn.getvalue())
    assert max(map(len, seen)) < (columns or 80)
    assert any("val/accuracy 0." in frame and frame.endswith("left") for frame in seen), "the metric is not cut off"
    names = dict.fromkeys(frame.split()[0] for frame in seen)
    assert list(names) == ["training", "validation", "test"]
    assert any(frame.startswith("training 3/3") for frame in seen)
    assert ID not in drawn.getvalue()
    assert "\n" not in drawn.getvalue()
    assert len([record for record in caplog.records if record.name.startswith("kdlab")]) == EPOCHS, "run.log has them"


def test_the_bar_shows_what_decides(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stderr", drawn := Terminal())
    keeper = Checkpoint(tmp_path, monitor="train/loss", mode="min")
    fit(trainer(False, [Progress(Path(ID), refresh_seconds=0), keeper], log_every_n_steps=1), Module())
    assert re.search(r"training 2/3 +\d+%.*train/loss 0\.\d{3}  ", drawn.getvalue())
    assert "val/accuracy" not in drawn.getvalue()


@pytest.mark.parametrize("why", ["dumb", "worker"])
def test_what_cannot_be_drawn_is_not(monkeypatch, why):
    monkeypatch.setattr(sys, "stderr", said := Terminal())
    assert terminal.draws()
    if why == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr("multiprocessing.current_process", lambda: type("P", (), {"name": "LokyProcess-1"})())
    assert not terminal.draws()
    run(refresh_seconds=0)
    assert "\r" not in said.getvalue() and "\x1b" not in said.getvalue()
    assert said.getvalue().count("epoch") == (EPOCHS if why == "dumb" else 0)


def test_a_long_epoch_has_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr("kdlab.callback.progress.QUIET", 0.0)
    run(refresh_seconds=0)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 18 + EPOCHS


def test_the_first_steps_of_a_long_training_say_how_long_it_will_take(monkeypatch, capsys):
    monkeypatch.setattr("kdlab.callback.progress.FIRST", 0.0)
    run(refresh_seconds=0)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 1 + EPOCHS
    assert re.match(r"epoch 1/3  step 3/18 .* 0:0\d left$", lines[0]), lines[0]


@pytest.mark.parametrize("own", [True, False])
def test_a_job_of_a_sweep_hands_on_how_far_its_teacher_is_and_is_silent_of_itself(monkeypatch, capsys, tmp_path, own):
    handed = []
    monkeypatch.setattr(terminal, "_deliver", lambda kind, text: handed.append((kind, text)))
    monkeypatch.setattr(terminal, "carried_out", Path(ID) if own else tmp_path / "student")
    run()
    assert capsys.readouterr().err == ""
    assert len(handed) == (0 if own else EPOCHS)
    assert all(kind == "note" and text.startswith("  epoch ") and text.endswith("left") for kind, text in handed)


def test_the_bar_is_drawn_rarely(monkeypatch):
    monkeypatch.setattr(sys, "stderr", drawn := Terminal())
    fit(trainer(False, [Progress(Path(ID), refresh_seconds=3600)], limit_val_batches=0), Module())
    assert len(frames(drawn.getvalue())) <= 2


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
