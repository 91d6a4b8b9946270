"""Estimates against what really happens: the number of steps and validations, bytes on disk and in memory."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel, RandomDataset
from torch.utils.data import DataLoader

from kdlab.doctor.cost import planned, reading, stored, unmeasured, validations, wall
from kdlab.store.build import TargetChunk, open_or_build
from tests.batches import text


class Counting(BoringModel):
    validated = 0

    def on_validation_epoch_start(self) -> None:
        self.validated += 1


@pytest.mark.parametrize(
    "settings",
    [
        {"max_epochs": 3, "max_steps": -1},
        {"max_epochs": 3, "max_steps": 7},
        {"max_epochs": -1, "max_steps": 9},
        {"max_epochs": 2, "max_steps": -1, "accumulate_grad_batches": 4},
        {"max_epochs": 2, "max_steps": -1, "limit_train_batches": 4},
        {"max_epochs": 2, "max_steps": -1, "limit_train_batches": 0.5},
        {"max_epochs": 2, "max_steps": -1, "val_check_interval": 0.5},
        {"max_epochs": 4, "max_steps": -1, "check_val_every_n_epoch": 2},
        {"max_epochs": -1, "max_steps": 20, "val_check_interval": 5, "check_val_every_n_epoch": None},
    ],
    ids=str,
)
def test_steps_and_validations_are_as_many_as_lightning_does(settings, tmp_path):
    model = Counting()
    trainer = pl.Trainer(
        **settings, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, num_sanity_val_steps=0, default_root_dir=tmp_path,
    )  # fmt: skip
    data = DataLoader(RandomDataset(32, 10), batch_size=1)
    trainer.fit(model, data, DataLoader(RandomDataset(32, 2)))
    node = {"accumulate_grad_batches": 1, "limit_train_batches": 1.0, "val_check_interval": 1.0, **settings}
    node.setdefault("check_val_every_n_epoch", 1)
    steps = planned(10, node)
    assert steps == trainer.global_step
    batches = min(10, int(node["limit_train_batches"] * (1 if node["limit_train_batches"] == 4 else 10)))
    assert abs(validations(batches, node, steps) - model.validated) <= 1


def test_stores_of_a_few_rows_tell_the_size_of_those_of_all(tmp_path):
    lengths = np.random.default_rng(0).integers(1, 20, 50)

    def made(folder: str, rows: np.ndarray, **told: int) -> int:
        tokens, pairs = int(lengths[rows].sum()), int((lengths[rows] ** 2).sum())
        values = {
            "logits": ("row", np.zeros((len(rows), 3), np.float32)),
            "hidden.0": ("token", np.zeros((tokens, 8), np.float16)),
            "attention.0": ("pair", np.zeros((pairs, 2), np.float32)),
        }
        held = np.where(np.isin(np.arange(50), rows), lengths, 0)
        store = open_or_build(
            tmp_path / folder,
            str(told),
            told,
            held,
            [rows],
            lambda numbers: (TargetChunk(rows, values) for _ in numbers),
        )
        return sum(array.nbytes for array in store.arrays.values())

    some, train = np.arange(5), np.arange(20, 45)
    made("few", some)
    whole = made("all", np.arange(50))
    assert stored(tmp_path / "few", lengths, train, epochs=3) == whole
    for epoch in range(2):
        made("few", some, epoch=epoch)
    views = sum(made("all", train, epoch=epoch) for epoch in range(3))
    assert stored(tmp_path / "few", lengths, train, epochs=3) == whole + views


def test_a_step_of_a_larger_model_is_scaled_by_what_it_reads_and_by_what_learns():
    """Against the definition: a step is a forward and two backward parts, and the optimizer's on each parameter."""

    def step(token: float, tokens: float, parameters: float) -> float:
        return 3 * token * tokens + 0.001 * parameters

    own, other = (0.002, 1000.0, 500.0), (0.005, 400.0, 1500.0)
    assert unmeasured(step(*own), own[0], other[0], own[1], other[1], other[2] / own[2]) == pytest.approx(step(*other))
    assert wall(8.0, 1) == 8.0
    assert 2.0 < wall(8.0, 4) < 8.0


def test_reading_a_longer_batch_costs_tokens_and_leaves_the_model_as_it_was():
    class Slow(torch.nn.Module):
        calls: ClassVar[list[tuple[int, ...]]] = []

        def forward(self, input_ids, attention_mask):
            self.calls.append(tuple(input_ids.shape))
            assert torch.get_num_threads() == 1
            assert not self.training

    threads, model = torch.get_num_threads(), Slow().train()
    ids = torch.zeros(3, 5, dtype=torch.long)
    assert reading(model, text({"input_ids": ids, "attention_mask": torch.ones_like(ids)})) >= 0
    assert Slow.calls == [(3, 5), (3, 5)]
    assert model.training
    assert torch.get_num_threads() == threads


def test_measured_memory_holds_weights_gradients_and_the_optimizers_state(kdlab, tiny):
    """Of an Adam in float32, gradients are as large as the weights, and its state twice that."""
    code, out, err = kdlab("doctor", "finetune", *tiny["finetune"], "logger=none")
    assert code == 0, err
    line = " ".join(out.split()).split("memory ")[1]
    sizes = {name: line.split(f"{name} ")[1].split()[0] for name in ("weights", "gradients", "optimizer")}
    weights, gradients, state = (float(sizes[name]) for name in ("weights", "gradients", "optimizer"))
    assert 0.85 * weights < gradients < weights, "weights are counted with the buffers, such as a table of positions"
    assert state == pytest.approx(2 * gradients, rel=0.02)
    assert not Path("outputs").exists()
    assert torch.is_grad_enabled()
