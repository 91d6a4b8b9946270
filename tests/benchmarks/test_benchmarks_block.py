"""A block is a job of kdlab's command whose training can be repeated."""

from __future__ import annotations

import pytest

from tests.benchmarks import setting
from tests.benchmarks.block import block


@pytest.mark.slow
def test_a_training_is_timed_batch_by_batch_and_can_be_repeated(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_BENCHMARK", str(tmp_path))
    with setting.composing():
        made = block("tried", *tiny["distill"], "logger=none")
        weights = {name: value.clone() for name, value in made.ready.learner.model.state_dict().items()}
        times = [made.fit() for _ in range(2)]
    steps = -(-len(made.data.splits["train"]) // 16)
    assert [[len(epoch) for epoch in epochs] for epochs in times] == [[steps, steps]] * 2
    assert all(list(epoch) == sorted(epoch) for epochs in times for epoch in epochs)
    assert made.precision == "32-true"
    assert any((value != weights[name]).any() for name, value in made.ready.learner.model.state_dict().items())
