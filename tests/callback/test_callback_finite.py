"""A run with a NaN never ends well, and says where it began."""

import pytest
import torch
from toy import Module, fit, trainer

from kdlab.callback.checkpoint import Checkpoint
from kdlab.callback.finite import Finite
from kdlab.error import UserError


@pytest.mark.parametrize("every_n_steps", [1, 4, 1000])
def test_names_the_first_step_and_its_terms(tmp_path, every_n_steps):
    checkpoint = Checkpoint(tmp_path, monitor=None)
    with pytest.raises(UserError, match=r"train/loss, train/loss/hint became NaN or infinite at step 8;"):
        fit(trainer(False, [Finite(every_n_steps), checkpoint]), Module(break_at=8))
    last = torch.load(checkpoint.last, weights_only=True)
    assert last["global_step"] == 6
    assert all(weight.isfinite().all() for weight in last["state_dict"].values())


def test_last_step_that_breaks_the_weights_only(tmp_path):
    module = Module()

    def spoil(*args):
        if module.global_step == 17:  # the last step's gradient: no later loss can tell
            module.model.weight.grad.fill_(float("nan"))

    module.on_before_optimizer_step = spoil
    with pytest.raises(UserError, match=r"model\.weight.*step 18"):
        fit(trainer(False, [Finite()]), module)


def test_asks_the_device_once_every_n_steps(monkeypatch):
    asked = []
    monkeypatch.setattr(Finite, "check", lambda self: asked.append(1))
    fit(trainer(False, [Finite(every_n_steps=3)]), Module())
    assert len(asked) == 3 * 2 + 3 + 1 + 1  # in the epochs, after each, at the end, and when the names became known


def test_a_healthy_run_passes():
    fit(trainer(False, [Finite(2)]), Module())
