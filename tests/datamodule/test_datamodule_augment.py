"""Laws of augmentation: seeded by row and epoch, places stay, teachers read what was there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from small import options
from test_datamodule_batch import encoded

from kdlab.config import conf, instantiate
from kdlab.datamodule.augment.word_dropout import WordDropout
from kdlab.datamodule.augment.word_swap import WordSwap
from kdlab.datamodule.batch import TrainLoader
from kdlab.error import UserError

OPTIONS = options("datamodule/augment")


def made(option: str, probability: float = 0.4, seed: int = 0):
    node = OmegaConf.load(conf() / f"datamodule/augment/{option}.yaml")
    node.seed, node.probability = seed, probability
    return instantiate.make(node)


def dealt(option: str, epoch: int = 0, seed: int = 0, size: int = 16, accumulate: int = 1, **how):
    loader = TrainLoader(
        encoded(60), np.arange(60), size, accumulate=accumulate, augment=made(option, seed=seed, **how)
    )
    loader.set_epoch(epoch)
    rows = {}
    for batch in loader:
        lengths = batch.clean.inputs["attention_mask"].sum(1)
        for place, row in enumerate(batch.row.tolist()):
            cut = slice(0, int(lengths[place]))
            rows[row] = (
                batch.inputs["input_ids"][place, cut].tolist(),
                batch.inputs["attention_mask"][place, cut].tolist(),
            )
    return rows


@pytest.mark.parametrize("option", OPTIONS)
def test_a_row_depends_on_seed_and_epoch_and_not_on_how_batches_are_dealt(option):
    first = dealt(option)
    assert first == dealt(option) == dealt(option, accumulate=4)
    assert first != dealt(option, epoch=1) and first != dealt(option, seed=1)


@pytest.mark.parametrize("option", OPTIONS)
@given(probability=st.floats(0, 0.99), length=st.integers(1, 30), seed=st.integers(0, 99))
def test_tokens_are_those_of_the_row_and_one_is_seen(option, probability, length, seed):
    ids = np.arange(100, 100 + length)
    new, seen = made(option, probability).change(ids.copy(), np.random.default_rng(seed))
    assert sorted(new.tolist()) == ids.tolist() and seen.any()


@pytest.mark.parametrize("option", OPTIONS)
def test_ends_padding_and_what_teachers_read_stay(option):
    plain = list(TrainLoader(encoded(60), np.arange(60), 16))
    changed = 0
    for before, batch in zip(plain, TrainLoader(encoded(60), np.arange(60), 16, augment=made(option)), strict=True):
        assert torch.equal(before.row, batch.row)
        kept = batch.original
        for name in ("input_ids", "attention_mask"):
            assert torch.equal(kept.inputs[name], before.inputs[name])
            last = before.inputs["attention_mask"].sum(1, keepdim=True) - 1
            assert torch.equal(batch.inputs[name][:, 0], before.inputs[name][:, 0])
            assert torch.equal(batch.inputs[name].gather(1, last), before.inputs[name].gather(1, last))
            outside = before.inputs["attention_mask"] == 0
            assert torch.equal(batch.inputs[name][outside], before.inputs[name][outside])
        changed += sum(int((batch.inputs[name] != kept.inputs[name]).sum()) for name in ("input_ids", "attention_mask"))
    assert changed > 50


def test_dropout_hides_as_many_as_it_says_and_swap_moves_as_many():
    random = np.random.default_rng(0)
    ids = np.arange(10_000)
    _, seen = WordDropout(0.3).change(ids, random)
    assert 0.28 < 1 - seen.mean() < 0.32
    new, _ = WordSwap(0.1).change(ids, random)
    assert 0.17 < (new != ids).mean() < 0.2, "a swap moves two"


@pytest.mark.parametrize("option", OPTIONS)
def test_nothing_happens_at_zero_and_a_whole_is_refused(option):
    assert all(mask == [1] * len(mask) for _, mask in dealt(option, probability=0.0).values())
    with pytest.raises(UserError, match="from 0 to below 1"):
        made(option, 1.0)
