import itertools
import multiprocessing
import os
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from kdlab.metric import cost
from kdlab.metric.cost import LENGTH, latency, macs, parameters, throughput
from tests.batches import text


class Slow(nn.Module):
    """Works for a given time a call and remembers how it was called."""

    def __init__(self, seconds=0.0):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.part = nn.Dropout()
        self.seconds, self.seen = seconds, []

    def forward(self, input_ids, attention_mask):
        state = (self.training, torch.is_inference_mode_enabled(), torch.get_num_threads())
        self.seen.append((tuple(input_ids.shape), *state))
        until = time.process_time() + self.seconds
        while time.process_time() < until:
            pass
        return SimpleNamespace(logits=self.layer(torch.zeros(len(input_ids), 2)))


def row(length=LENGTH):
    ids = torch.arange(length)[None] % 2
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def batch(rows=4):
    mask = torch.ones(rows, 5, dtype=torch.long)
    mask[0, 3:] = 0
    return text({"input_ids": torch.zeros(rows, 5, dtype=torch.long), "attention_mask": mask}, torch.zeros(rows))


@pytest.fixture
def threads():
    was = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(was)


def test_parameters_count_shared_ones_once():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3))
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    assert parameters(model) == {
        "parameters": 15,
        "trainable_parameters": 12,
        "size_mb": pytest.approx((15 * 4 + 2 * 3 * 4 + 8) / 1e6),
    }


def test_latency_is_of_one_fixed_row_on_one_thread_and_leaves_everything_as_it_was(threads):
    model = Slow(0.001).train()
    model.part.eval()
    found = latency(model, row(7))
    assert found["latency_ms"] >= 1
    assert found["latency_p10_ms"] <= found["latency_ms"] <= found["latency_p90_ms"]
    assert set(model.seen) == {((1, 7), False, True, 1)} and len(model.seen) == 43
    assert model.training and not model.part.training and model.layer.training
    assert torch.get_num_threads() == threads


def test_latency_is_the_median_of_the_work_and_not_of_the_wall(monkeypatch):
    work = iter(itertools.accumulate(itertools.chain.from_iterable((0.0, 0.001 * call) for call in range(1, 46))))
    monkeypatch.setattr(cost, "process_time", lambda: next(work))
    found = latency(Slow(), row(), repeats=41)
    assert found["latency_ms"] == pytest.approx(3 + 21)  # calls 4 to 44 take as many ms
    assert (found["latency_p10_ms"], found["latency_p90_ms"]) == (pytest.approx(8), pytest.approx(40))
    idle = Slow()
    monkeypatch.undo()
    idle.forward = lambda **_: time.sleep(0.01)
    assert latency(idle, row(), repeats=3)["latency_ms"] < 5, "a processor that sleeps does not work"


def test_a_failing_model_gives_back_threads_and_lock(threads):
    model = Slow()
    model.forward = lambda **_: 1 / 0
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            latency(model, row())
    assert torch.get_num_threads() == threads


def _measure(place, order):
    cost.tempfile.tempdir = str(place)
    with cost._alone():
        order.append("in")
        time.sleep(0.2)
        order.append("out")


def test_one_process_measures_at_a_time(tmp_path, monkeypatch):
    fork = multiprocessing.get_context("fork")
    with fork.Manager() as manager:
        order = manager.list()
        both = [fork.Process(target=_measure, args=(tmp_path, order)) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        assert list(order) == ["in", "out", "in", "out"]
    monkeypatch.setattr(cost.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cost, "PATIENCE", 0.1)
    handle = os.open(tmp_path / "kdlab-measures.lock", os.O_RDONLY)
    cost.fcntl.flock(handle, cost.fcntl.LOCK_EX)
    with cost._alone():  # another user's process that never ends holds nobody up
        pass
    os.close(handle)
    monkeypatch.setattr(cost.tempfile, "tempdir", str(tmp_path / "nowhere"))
    with cost._alone():
        pass


def bert(**more):
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=50, num_labels=3,
        **more,
    )  # fmt: skip
    return BertForSequenceClassification(config)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("length", [1, 16, 32])
def test_multiply_adds_are_those_of_the_matrices(attention, length):
    layer = 4 * length * 32 * 32 + 2 * length * 32 * 64 + 2 * length * length * 32
    assert macs(bert(attn_implementation=attention), row(length)) == 2 * layer + 32 * 32 + 32 * 3


class Fast(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(2, 32)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2)

    def forward(self, input_ids, attention_mask):
        return self.body(self.embed(input_ids))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.body = nn.Embedding(2, 8), nn.LSTM(8, 8, batch_first=True)

    def forward(self, input_ids, attention_mask):
        return self.body(self.embed(input_ids))


def test_kernels_that_fuse_are_counted_too_and_switched_on_again():
    assert macs(Fast(), row(16)) == 2 * (4 * 16 * 32 * 32 + 2 * 16 * 32 * 64 + 2 * 16 * 16 * 32)
    assert macs(Recurrent(), row(16)) == 16 * 4 * (8 * 8 + 8 * 8)
    assert torch.backends.mha.get_fastpath_enabled() and torch.backends.mkldnn.enabled


def test_a_causal_model_is_measured_too():
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50, n_positions=16))
    assert macs(model, row(8)) > 0
    assert latency(model, row(8), repeats=2)["latency_ms"] > 0


def test_throughput_counts_rows_and_warms_up_outside_the_clock(threads):
    model = Slow(0.005)
    value = throughput(model, (batch(rows) for rows in (4, 2)))
    assert 6 / 0.5 < value <= 6 / 0.01
    assert [shape[0] for shape, *_ in model.seen] == [4, 4, 2]
    assert {count for *_, count in model.seen} == {1} and torch.get_num_threads() == threads
    with pytest.raises(ValueError, match="at least one batch"):
        throughput(model, [])
