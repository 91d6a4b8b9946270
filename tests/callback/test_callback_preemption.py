"""Asked to leave by a signal: the checkpoint is whole, and what goes on from it ends the same."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from toy import EPOCHS, Module, fit, trainer

from kdlab.callback.checkpoint import Checkpoint
from kdlab.callback.preemption import Preempted, Preemption, notice

STEPS = 6  # an epoch


class Ask(pl.Callback):
    """Sends the signal at a hook after a number of steps."""

    def __init__(self, hook: str, step: int, number: int) -> None:
        self.step, self.number = step, number
        setattr(self, hook, self._ask)

    def _ask(self, trainer, *arguments) -> None:
        if trainer.global_step >= self.step and not notice.asked:
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGALRM)}
    notice.listen(patience=30)
    yield
    notice.obeyed()
    notice.asked, notice.patience = False, None
    for number, handler in before.items():
        signal.signal(number, handler)


def run(folder: Path, *callbacks: pl.Callback, **options) -> pl.Trainer:
    keeper = Checkpoint(folder)
    last = keeper.last if keeper.last.exists() else None
    return fit(trainer(False, [*callbacks, Preemption(keeper), keeper], **options), Module(), ckpt_path=last)


def content(folder: Path) -> dict:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return content(folder)


# asked after that many steps, and where it leaves: not at the last batch of an epoch, whose validation is still due
@pytest.mark.parametrize(("step", "left"), [(0, 1), (3, 4), (5, 7), (9, 10)])
@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM], ids=["USR2", "TERM"])
def test_it_leaves_at_the_end_of_a_step_and_goes_on_from_there(tmp_path, undisturbed, step, left, number):
    with pytest.raises(Preempted):
        run(tmp_path, Ask("on_train_batch_start", step, number))
    assert content(tmp_path)["global_step"] == left
    notice.asked = False
    assert run(tmp_path).global_step == EPOCHS * STEPS
    for key, weight in undisturbed["state_dict"].items():
        assert torch.equal(content(tmp_path)["state_dict"][key], weight)


def test_it_does_not_leave_between_the_micro_batches_of_a_step(tmp_path):
    with pytest.raises(Preempted):
        run(tmp_path, Ask("on_train_batch_start", 0, signal.SIGUSR2), accumulate_grad_batches=2)
    assert content(tmp_path)["global_step"] == 1


def test_it_does_not_leave_the_last_step_which_has_nothing_to_go_on_to(tmp_path):
    done = run(tmp_path, Ask("on_train_batch_start", EPOCHS * STEPS - 1, signal.SIGUSR2))
    assert done.global_step == EPOCHS * STEPS


def test_outside_of_training_it_leaves_at_once():
    with pytest.raises(Preempted):
        os.kill(os.getpid(), signal.SIGUSR2)


class Slow(pl.Callback):
    def on_train_batch_end(self, trainer, *arguments) -> None:
        if notice.asked:
            time.sleep(60)


def test_a_step_that_does_not_end_is_left_in_the_middle(tmp_path):
    notice.patience = 0.2
    begin = time.monotonic()
    with pytest.raises(Preempted):
        run(tmp_path, Ask("on_train_batch_start", 1, signal.SIGUSR2), Slow())
    assert time.monotonic() - begin < 30
