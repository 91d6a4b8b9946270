"""Checkpoints: whole after a kill at any moment, the first of equals, nothing in them but plain data."""

import os
import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from toy import EPOCHS, Kill, Loader, Module, fit, in_child, trainer

from kdlab.callback.checkpoint import Checkpoint
from kdlab.callback.early_stopping import EarlyStopping
from kdlab.callback.finite import Finite
from kdlab.callback.speed import Speed
from kdlab.error import UserError
from kdlab.logger.base import RunInfo, opened
from kdlab.logger.history import History


def run(folder: Path, every_n_steps: int = 0, kill: pl.Callback | None = None) -> pl.Trainer:
    """Train to the end, from last.ckpt where there is one, and test, as a command does."""
    checkpoint = Checkpoint(folder, every_n_steps=every_n_steps)
    last = checkpoint.last if checkpoint.last.exists() else None
    step = torch.load(last, weights_only=True)["global_step"] if last else 0
    info = RunInfo(id=folder.name, folder=folder, outputs=folder.parent, command="distill", resumed_step=step)
    with opened(info, {}) as journal:
        callbacks = [
            Finite(),
            Speed(),
            LearningRateMonitor("step"),
            EarlyStopping("val/accuracy", patience=9),
        ]
        module = Module()
        made = fit(
            trainer(journal.loggers, [*callbacks, checkpoint, *([kill] if kill else [])]), module, ckpt_path=last
        )
        made.test(module, Loader(), ckpt_path="best", verbose=False, weights_only=True)
    return made


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


@pytest.mark.parametrize(
    ("hook", "step", "every_n_steps"),
    [
        ("on_train_batch_start", 6, 0),
        ("on_train_batch_end", 9, 4),
        ("on_validation_start", 12, 4),
        ("on_validation_end", 12, 0),
        ("on_test_end", 0, 4),
        ("log", 3, 4),  # the row of the fourth step, which a checkpoint ends with
        ("log", 11, 0),
        ("log", 17, 0),
    ],
)
def test_killed_and_resumed_run_has_the_same_history_and_weights(tmp_path, undisturbed, hook, step, every_n_steps):
    folder = tmp_path / "run"

    def killed():
        if hook == "log":
            log = History.log_metrics
            History.log_metrics = lambda self, metrics, step=None: (
                os.kill(os.getpid(), signal.SIGKILL)
                if step == last_row and "train/loss" in metrics
                else log(self, metrics, step)
            )
        run(folder, every_n_steps, Kill(hook, step) if hook != "log" else None)

    last_row = step
    assert in_child(killed) == signal.SIGKILL
    run(folder, every_n_steps)
    assert (folder / "history.csv").read_text() == (undisturbed / "history.csv").read_text()
    for name in ("last.ckpt", "best.ckpt"):
        mine, other = (torch.load(where / "checkpoints" / name, weights_only=True) for where in (folder, undisturbed))
        assert mine["global_step"] == other["global_step"]
        for key, weight in other["state_dict"].items():
            torch.testing.assert_close(mine["state_dict"][key], weight, rtol=0, atol=0)


def test_files_are_two_and_plain(undisturbed):
    assert sorted(file.name for file in (undisturbed / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    last = torch.load(undisturbed / "checkpoints" / "last.ckpt", weights_only=True)
    assert {"Checkpoint", "EarlyStopping", "Speed"} <= {name.split("{")[0] for name in last["callbacks"]}
    assert last["optimizer_states"]
    assert "optimizer_states" not in torch.load(undisturbed / "checkpoints" / "best.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("mode", "values", "epoch"),
    [
        ("max", [0.5, 0.5, 0.25], 0),
        ("max", [0.25, 0.5, 0.5], 1),
        ("min", [0.5, 0.25, 0.25], 1),
        ("max", [0.1, 0.2, 0.3], 2),
    ],
)
def test_best_is_the_first_of_equals(tmp_path, mode, values, epoch):
    checkpoint = Checkpoint(tmp_path, mode=mode)
    module = Module(accuracy=values)
    module.directions = {"accuracy": mode == "max"}
    fit(trainer(False, [checkpoint]), module)
    assert torch.load(checkpoint.best, weights_only=True)["epoch"] == epoch
    assert checkpoint.best_value == pytest.approx(values[epoch])
    assert torch.load(checkpoint.last, weights_only=True)["epoch"] == EPOCHS - 1


def test_a_kill_while_writing_leaves_the_file_before(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    run(folder)
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()

    def torn(self, path, weights_only=False):
        Path(path).write_bytes(before[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", torn)
    checkpoint = Checkpoint(folder)
    with pytest.raises(BaseException):  # noqa: B017
        checkpoint.keep(pl.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu"))
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before


def test_unknown_monitor_names_the_choices(tmp_path):
    with pytest.raises(UserError, match=r"val/f1.*val/accuracy"):
        fit(trainer(False, [Checkpoint(tmp_path, monitor="val/f1", mode="max")]), Module())


def test_without_monitor_only_last(tmp_path):
    fit(trainer(False, [Checkpoint(tmp_path, monitor=None)]), Module())
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_early_stopping_counts_on_after_a_resume(tmp_path):
    folder = tmp_path / "run"
    values = [0.5, 0.4, 0.3, 0.2, 0.1]

    def go(kill=None):
        checkpoint = Checkpoint(folder)
        last = checkpoint.last if checkpoint.last.exists() else None
        stop = EarlyStopping("val/accuracy", patience=2)
        callbacks = [stop, checkpoint, *([kill] if kill else [])]
        return fit(trainer(False, callbacks, max_epochs=5), Module(accuracy=values), ckpt_path=last)

    assert in_child(lambda: go(Kill("on_train_batch_start", 12))) == signal.SIGKILL
    assert go().current_epoch == 3  # the best epoch and two that were not better, counted over the restart


def test_a_run_that_was_stopped_stays_so_after_a_resume(tmp_path):
    def go(kill=None):
        checkpoint, stop = Checkpoint(tmp_path), EarlyStopping(patience=1)
        last = checkpoint.last if checkpoint.last.exists() else None
        callbacks = [stop, checkpoint, *([kill] if kill else [])]
        return fit(trainer(False, callbacks, max_epochs=5), Module(accuracy=[0.5, 0.4, 0.9, 0.9, 0.9]), ckpt_path=last)

    assert in_child(lambda: go(Kill("on_train_end", 0))) == signal.SIGKILL
    again = go()
    assert again.global_step == 2 * 6
    assert again.checkpoint_callback.best_value == pytest.approx(0.5)


class Loss(Module):
    """Logs a loss that falls, then rises; and a metric that declares nothing."""

    directions = {"loss": False, "applause": None}  # noqa: RUF012

    def validation_step(self, batch, index):
        self.log("val/loss", torch.tensor(self.accuracy[self.current_epoch]), on_epoch=True, batch_size=1)
        self.log("val/applause", torch.tensor(1.0), on_epoch=True, batch_size=1)


def test_the_lowest_loss_is_the_best_epoch_and_patience_counts_from_it(tmp_path):
    falls = [0.9, 0.5, 0.2, 0.3, 0.4, 0.1]
    checkpoint, stop = Checkpoint(tmp_path, monitor="val/loss"), EarlyStopping("val/loss", patience=2)
    done = fit(trainer(False, [checkpoint, stop], max_epochs=6), Loss(accuracy=falls))
    assert checkpoint.best_value == pytest.approx(0.2)
    assert checkpoint.best_step == 3 * 6
    assert done.current_epoch == 5


@pytest.mark.parametrize("make", [lambda *args: Checkpoint(Path("unused"), *args), EarlyStopping])
def test_a_mode_that_contradicts_the_metric_or_is_not_known_is_told_before_a_step(make):
    for monitor, mode, told in (
        ("val/loss", "max", r"mode=max, but less of val/loss is better"),
        ("val/applause", None, r"mode is null, but val/applause does not declare"),
    ):
        module = Loss(accuracy=[0.5])
        with pytest.raises(UserError, match=told):
            fit(trainer(False, [make(monitor, mode)]), module)
        assert not hasattr(module, "last_logged")


@pytest.mark.parametrize("keep", [False, True])
def test_a_finished_run_drops_what_the_optimizer_remembers_unless_asked_to_keep_it(tmp_path, keep):
    checkpoint = Checkpoint(tmp_path, keep_optimizer=keep)
    fit(trainer(False, [checkpoint]), Module())
    before, size = torch.load(checkpoint.last, weights_only=True), checkpoint.last.stat().st_size
    checkpoint.finish()
    after = torch.load(checkpoint.last, weights_only=True)
    assert bool(after["optimizer_states"]) is keep
    assert after.keys() == before.keys() and after["callbacks"] == before["callbacks"]
    assert all(torch.equal(after["state_dict"][name], weight) for name, weight in before["state_dict"].items())
    assert (checkpoint.last.stat().st_size < size) is not keep
    assert {path.name for path in checkpoint.folder.iterdir()} <= {"last.ckpt", "best.ckpt"}
    again = fit(trainer(False, [Checkpoint(tmp_path)]), Module(), ckpt_path=checkpoint.last)
    assert again.global_step == 18, "there was nothing left to train"
    if not keep:
        longer = trainer(False, [Checkpoint(tmp_path)])
        longer.fit_loop.max_epochs = 9
        with pytest.raises(UserError, match=r"no optimizer state.*rerun=true"):
            fit(longer, Module(), ckpt_path=checkpoint.last)


def test_a_run_without_a_checkpoint_has_nothing_to_drop(tmp_path):
    Checkpoint(tmp_path).finish()
    assert not (tmp_path / "checkpoints").exists()


def test_what_early_stopping_follows_can_be_changed_before_training(tmp_path):
    stop = EarlyStopping("val/applause", patience=1)
    stop.monitor, stop.mode = "val/accuracy", "max"
    done = fit(trainer(False, [stop, Checkpoint(tmp_path)], max_epochs=5), Module(accuracy=[0.5, 0.4, 0.9, 0.9, 0.9]))
    assert done.current_epoch == 2
