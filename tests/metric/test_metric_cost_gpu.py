"""Latency by the GPU's own clock."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from kdlab.batch import Batch
from kdlab.metric.cost import latency, macs, throughput

pytestmark = pytest.mark.gpu


def model(layers):
    return BertForSequenceClassification(BertConfig(num_hidden_layers=layers)).to("cuda")


def test_latency_is_the_gpus_time_and_grows_with_the_layers():
    few, many = latency(model(2)), latency(model(12))
    assert 0 < few["latency_ms"] <= few["latency_p10_ms"] <= few["latency_p90_ms"]
    assert 2 < many["latency_ms"] / few["latency_ms"] < 12


def test_multiply_adds_are_those_of_the_cpu():
    one = model(2)
    assert macs(one) == macs(one.cpu())


def test_throughput_moves_the_rows():
    ids = torch.ones(8, 16, dtype=torch.long)
    batch = Batch(row=torch.arange(8), inputs={"input_ids": ids, "attention_mask": ids})
    assert throughput(model(2), [batch] * 3) > 0
