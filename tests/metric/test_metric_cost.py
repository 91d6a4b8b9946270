import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdlab.metric.cost import latency, parameters, throughput


class Slow(nn.Module):
    """Takes a given time a call and remembers what it was called with."""

    def __init__(self, seconds=0.0):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.part = nn.Dropout()
        self.seconds, self.seen = seconds, []

    def forward(self, input_ids, attention_mask):
        self.seen.append((tuple(input_ids.shape), self.training, torch.is_inference_mode_enabled()))
        time.sleep(self.seconds)
        return SimpleNamespace(logits=self.layer(torch.zeros(len(input_ids), 2)))


def batch(rows=4):
    mask = torch.ones(rows, 5, dtype=torch.long)
    mask[0, 3:] = 0
    return {"input_ids": torch.zeros(rows, 5, dtype=torch.long), "attention_mask": mask, "label": torch.zeros(rows)}


def test_parameters_count_shared_ones_once():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3))
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    assert parameters(model) == {
        "parameters": 15,
        "trainable_parameters": 12,
        "size_mb": pytest.approx((15 * 4 + 2 * 3 * 4 + 8) / 1e6),
    }


def test_latency_is_of_one_row_without_padding_and_leaves_the_model_as_it_was():
    model = Slow(0.002).train()
    model.part.eval()
    value = latency(model, batch(), repeats=5)
    assert 2 <= value < 200
    assert set(model.seen) == {((1, 3), False, True)} and len(model.seen) == 8
    assert model.training and not model.part.training and model.layer.training


def test_throughput_counts_rows_and_warms_up_outside_the_clock():
    model = Slow(0.005)
    value = throughput(model, (batch(rows) for rows in (4, 2)))
    assert 6 / 0.5 < value <= 6 / 0.01
    assert [shape[0] for shape, *_ in model.seen] == [4, 4, 2]
    with pytest.raises(ValueError, match="at least one batch"):
        throughput(model, [])
