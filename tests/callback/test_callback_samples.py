"""What a model wrote is kept for people to read: once for each step, whatever a logger does."""

import json
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer.states import TrainerFn

from kdlab.callback.samples import FILE, Samples
from kdlab.logger.base import SampleLogger

LINE = {"row": 7, "prompt": "how", "reference": "so", "student": "thus\n| or\x1b[31m", "teacher": "so"}


class Kept(SampleLogger):
    def __init__(self):
        self.calls = []

    def samples(self, *given):
        self.calls.append(given)


class Broken(SampleLogger):
    def samples(self, *given):
        raise OSError("the disk is full")


def at(step, *loggers, lines=(LINE,), **more):
    """A trainer after some steps, and its rule."""
    state = SimpleNamespace(fn=TrainerFn.FITTING)
    settings = {"is_global_zero": True, "sanity_checking": False, "loggers": loggers, "state": state}
    evaluators = {split: SimpleNamespace(samples=lambda: list(lines)) for split in ("val", "test")}
    return SimpleNamespace(global_step=step, **settings | more), SimpleNamespace(evaluators=evaluators)


def kept(folder):
    return [json.loads(line) for line in (folder / FILE).read_text("utf-8").splitlines()]


def test_each_validation_and_the_test_add_their_lines(tmp_path):
    callback, logger = Samples(tmp_path), Kept()
    callback.on_validation_end(*at(10, logger))
    callback.on_validation_end(*at(20, logger))
    callback.on_test_end(*at(20, logger))
    assert kept(tmp_path) == [
        {"split": split, "step": step} | LINE for split, step in [("val", 9), ("val", 19), ("test", 19)]
    ]
    names, columns, rows, steps = zip(*logger.calls, strict=True)
    assert names == ("val/samples", "val/samples", "test/samples") and steps == (9, 19, 19)
    assert columns[0] == list(LINE) and rows[0] == [list(LINE.values())]


def test_a_run_that_goes_on_drops_the_steps_that_it_does_again(tmp_path):
    callback = Samples(tmp_path)
    for step in (10, 20, 30):
        callback.on_validation_end(*at(step))
    callback.on_test_end(*at(30))
    callback.on_train_start(*at(20))
    assert [line["step"] for line in kept(tmp_path)] == [9, 19]
    callback.on_train_start(*at(0))
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    "more", [{"is_global_zero": False}, {"sanity_checking": True}, {"state": SimpleNamespace(fn=TrainerFn.VALIDATING)}]
)
def test_nothing_is_written_by_other_processes_and_outside_of_training(tmp_path, more):
    Samples(tmp_path).on_validation_end(*at(10, **more))
    Samples(tmp_path).on_validation_end(*at(10, lines=()))
    assert not (tmp_path / FILE).exists()


def test_a_logger_that_fails_or_shows_no_texts_stops_nothing(tmp_path, caplog):
    last = Kept()
    Samples(tmp_path).on_validation_end(*at(10, CSVLogger(tmp_path), Broken(), last))
    assert len(kept(tmp_path)) == len(last.calls) == 1 and "Broken cannot show samples" in caplog.text
