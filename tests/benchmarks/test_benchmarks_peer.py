"""The peers do the same work: from the same weights and rows, each ends with the same student."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest

from tests.benchmarks import environment
from tests.benchmarks.contender import PEERS
from tests.benchmarks.machine import ROOT
from tests.benchmarks.peer.work import Batches, Rows, warmup_linear

ROWS, EPOCHS, LENGTH, WORDS = 24, 4, 12, 60
COLUMNS = [
    (peer, column)
    for peer in PEERS
    for column in ("documented", "best")
    if (peer, column)[1] == "best" or peer != "plain_torch_cached"
]
RUNNER = """
import importlib, json, sys, torch
from pathlib import Path
from tests.benchmarks.peer import work as shared
folder, batch = Path(sys.argv[1]), sys.argv[2]
for word in sys.argv[3:]:
    peer, column = word.split(":")
    module = importlib.import_module(f"tests.benchmarks.peer.{peer}")
    kept = {}
    def train(work):
        kept["work"] = work
        return module.train(work)
    answer = shared.run(peer, train, ["--column", column, "--teacher", str(folder / "teacher"), "--student",
        str(folder / "student"), "--data", str(folder), "--epochs", "4", "--lr", "1e-2", "--batch-size", batch])
    work = kept["work"]
    rows = work.test.batch(range(len(work.test)), fixed=True); rows.pop("labels")
    with torch.no_grad():
        logits = work.student.eval().float()(**rows).logits.float()
    print("logits", json.dumps([word, logits.flatten().tolist(), answer]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A teacher, a student without dropout and rows, all tiny."""
    from transformers import BertConfig, BertForSequenceClassification

    place = tmp_path_factory.mktemp("work")
    random = np.random.default_rng(0)
    for name, width in (("teacher", 24), ("student", 16)):
        config = BertConfig(
            vocab_size=WORDS, hidden_size=width, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=LENGTH, num_labels=2,
        )  # fmt: skip
        model = BertForSequenceClassification(config)
        for parameter in model.parameters():
            parameter.data *= 6
        model.save_pretrained(place / name)
    lengths = random.integers(3, LENGTH + 1, 2 * ROWS)
    np.save(place / "tokens.npy", random.integers(1, WORDS, lengths.sum()).astype(np.int32))
    np.save(place / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]))
    np.save(place / "labels.npy", random.integers(0, 2, 2 * ROWS))
    np.save(place / "train.npy", np.arange(ROWS))
    np.save(place / "test.npy", np.arange(ROWS, 2 * ROWS))
    (place / "meta.json").write_text(json.dumps({"pad": 0, "max_length": LENGTH}))
    return place


def train(python, folder, batch: int, columns) -> dict[str, np.ndarray]:
    words = [f"{peer}:{column}" for peer, column in columns]
    done = subprocess.run(
        [str(python), "-c", RUNNER, str(folder), str(batch), *words], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line.removeprefix("logits ")) for line in done.stdout.splitlines() if line.startswith("logits")]
    return {word: (np.array(logits), answer) for word, logits, answer in told}


@pytest.fixture(scope="module")
def trained(folder):
    """Every peer's student after four steps on all rows at once, where their order does not matter."""
    if not environment.ready():
        pytest.skip(
            f"the peers' environment is not there: python -m tests.benchmarks.environment makes {environment.folder()}"
        )
    return train(environment.python(), folder, ROWS, COLUMNS)


@pytest.mark.slow
@pytest.mark.parametrize(("peer", "column"), COLUMNS)
def test_every_peer_learns_the_same_student(trained, folder, peer, column):
    from transformers import AutoModelForSequenceClassification

    logits, answer = trained[f"{peer}:{column}"]
    reference, _ = trained["plain_torch:documented"]
    rows = read_test(folder)
    start = AutoModelForSequenceClassification.from_pretrained(folder / "student").eval()(**rows).logits.detach()
    moved = np.abs(reference - start.numpy().ravel()).max()
    assert moved > 0.1
    allowed = 0.15 if answer["bfloat16"] else 0.02  # of the way that training went
    assert np.abs(logits - reference).max() < allowed * moved
    assert answer["samples"] == ROWS * EPOCHS
    assert answer["training_seconds"] > 0


def read_test(folder):
    from tests.benchmarks.peer.work import read

    rows = read(folder, "test")
    batch = rows.batch(range(len(rows)), fixed=True)
    batch.pop("labels")
    return batch


@pytest.mark.slow
def test_the_hand_written_loops_need_no_environment_of_their_own(folder):
    import sys

    found = train(sys.executable, folder, 8, [("plain_torch", "documented"), ("plain_torch_cached", "best")])
    assert len(found) == 2


def rows(count: int = 50) -> Rows:
    random = np.random.default_rng(1)
    return Rows([np.arange(1, 1 + size) for size in random.integers(1, 9, count)], np.arange(count), 0, 10)


@pytest.mark.parametrize("grouped", [False, True])
def test_each_row_is_in_one_batch_of_an_epoch(grouped):
    many = rows()
    plan = many.shuffled(8, seed=0, grouped=grouped)
    assert sorted(np.concatenate(plan)) == list(range(50))
    assert sorted(map(len, plan)) == [2] + [8] * 6


def test_grouped_batches_pad_less_and_fixed_ones_to_the_length():
    many = rows()
    width = {
        grouped: sum(batch["input_ids"].numel() for batch in Batches(many, 8, 0, fixed=False, grouped=grouped))
        for grouped in (False, True)
    }
    assert width[True] < width[False]
    assert {batch["input_ids"].shape[1] for batch in Batches(many, 8, 0, fixed=True, grouped=False)} == {10}


def test_padding_is_masked_and_nothing_else():
    many = rows()
    batch = many.batch([3, 7], fixed=True)
    assert batch["attention_mask"].sum(1).tolist() == [len(many.ids[3]), len(many.ids[7])]
    assert batch["labels"].tolist() == [3, 7]


def test_epochs_differ_and_repeat_with_the_seed():
    def epochs(seed):
        batches = Batches(rows(), 8, seed, fixed=False, grouped=False)
        return [[batch["labels"].tolist() for batch in batches] for _ in range(2)]

    assert epochs(0) == epochs(0)
    assert epochs(0)[0] != epochs(0)[1]
    assert epochs(0) != epochs(1)


def test_the_rate_is_kdlabs():
    import torch

    from kdlab.schedule.linear import Linear
    from kdlab.schedule.warmup import Warmup

    steps, ours = 100, Warmup(0.1, Linear(1.0, 0.0))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = warmup_linear(optimizer, steps).lr_lambdas[0]
    assert [theirs(step) for step in range(steps)] == pytest.approx(
        [ours(step / steps) for step in range(steps)], abs=0.02
    )
