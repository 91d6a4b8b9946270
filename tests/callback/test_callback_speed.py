"""The speed counts training rows against training time only."""

import time

import pytest
from toy import BATCH, EPOCHS, ROWS, Module, fit, trainer

from kdlab.callback.speed import Speed


def test_leaves_out_validation_and_the_first_batch():
    module, step = Module(), 0.004

    def slow(*args):
        time.sleep(step)

    def slower(*args):
        time.sleep(0.05)

    module.on_train_batch_start, module.on_validation_batch_start = slow, slower
    speed = Speed()
    metrics = fit(trainer(False, [speed]), module).callback_metrics
    batches = EPOCHS * (ROWS // BATCH) - 1
    assert (speed.batches, speed.rows) == (batches, batches * BATCH)
    assert speed.seconds >= batches * step
    assert speed.seconds < 0.05 * batches  # what the validation alone takes
    assert metrics["perf/samples_per_second"] == pytest.approx(speed.rows / speed.seconds)
    assert metrics["perf/step_ms"] == pytest.approx(1000 * speed.seconds / speed.batches)


def test_goes_on_after_a_resume():
    first, second = Speed(), Speed()
    fit(trainer(False, [first], max_epochs=1), Module())
    second.load_state_dict(first.state_dict())
    fit(trainer(False, [second], max_epochs=1), Module())
    assert second.batches == 2 * first.batches
    assert second.seconds > first.seconds
