"""Operations are counted as the formulas say."""

from __future__ import annotations

import pytest
from torch import nn

from tests.benchmarks import setting
from tests.benchmarks.block import block
from tests.benchmarks.utilisation import work


@pytest.mark.slow
def test_an_epoch_has_every_row_once_and_forward_and_backward(tiny, tmp_path, monkeypatch):
    """A linear layer takes 2 operations a weight and position forward, and 4 backward; attention comes on top."""
    monkeypatch.setenv("KDLAB_BENCHMARK", str(tmp_path))
    with setting.composing():
        whole = block("tried", *tiny["distill"], "logger=none")
        found = work(whole)
    rows = whole.data.splits["train"]
    assert found["rows"] == len(rows) and found["steps"] == -(-len(rows) // 16)
    assert found["tokens"] == whole.data.lengths[rows].sum()
    shapes = [batch.inputs["input_ids"].shape for batch in whole.data.train_dataloader()]
    positions, squares = sum(b * t for b, t in shapes), sum(b * t * t for b, t in shapes)
    linear = attention = 0
    for name, layer in whole.ready.learner.model.named_modules():
        if isinstance(layer, nn.Linear):
            once = "pooler" in name or "classifier" in name
            linear += 6 * layer.in_features * layer.out_features * (found["rows"] if once else positions)
        if name.endswith("attention.self"):
            attention += 12 * squares * 16
    assert linear <= found["operations"] <= linear + attention
