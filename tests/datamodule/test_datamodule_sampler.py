"""Laws of the steps that a budget of tokens makes: nothing above it, every row once, as many steps in every epoch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_datamodule_batch import encoded, goes_on
from test_datamodule_text import TOKENIZER, saved, toy

from kdlab.datamodule.batch import TrainLoader
from kdlab.datamodule.curriculum.length import Length
from kdlab.datamodule.sampler import FixedSize, TokenBudget
from kdlab.datamodule.table import Table
from kdlab.error import UserError

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=200).map(np.array)
PARTS = {"world": st.integers(1, 3), "accumulate": st.integers(1, 3)}


def loader(cards, tokens, rank=0, world=1, accumulate=1, seed=5, **how):
    index = np.arange(len(cards.rows))
    sampler = TokenBudget(tokens, int(cards.rows.lengths.max()))
    return TrainLoader(cards, index, 32, seed, rank, world, accumulate, batch_sampler=sampler, **how)


def affordable(cards, tokens, parts):
    """Whether a budget can be dealt out to so many parts; what cannot is told, and tested below."""
    sampler = TokenBudget(tokens, int(cards.rows.lengths.max()))
    return len(cards.rows) >= parts * sampler.count(cards.rows.lengths, parts)


@given(lengths=LENGTHS, extra=st.integers(0, 400), least=st.integers(1, 5), seed=st.integers(0, 9))
def test_no_step_is_above_the_budget_and_their_number_is_that_of_the_lengths(lengths, extra, least, seed):
    sampler = TokenBudget(int(lengths.max()) * least + extra, int(lengths.max()))
    count = sampler.count(lengths, least)
    assume(len(lengths) >= count * least)
    for epoch in range(3):
        steps = sampler.steps(lengths, least, seed, epoch)
        assert sorted(np.concatenate(steps).tolist()) == list(range(len(lengths)))
        assert len(steps) == count == sampler.count(np.random.default_rng(epoch).permutation(lengths), least)
        for step in steps:
            assert len(step) >= least and len(step) * lengths[step].max() <= sampler.tokens
        again = sampler.steps(lengths, least, seed, epoch)
        assert [step.tolist() for step in again] == [step.tolist() for step in steps]


@given(lengths=LENGTHS, extra=st.integers(0, 400), least=st.integers(1, 4), more=st.integers(0, 9))
def test_more_steps_are_made_of_the_same_rows_within_the_budget(lengths, extra, least, more):
    sampler = TokenBudget(int(lengths.max()) * least + extra, int(lengths.max()))
    most = len(lengths) // least
    assume(most >= sampler.count(lengths, least))
    count = min(sampler.count(lengths, least) + more, most)  # not assumed, or most examples would be rejected
    steps = sampler.spread(sampler.steps(lengths, least, 0), count, least)
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(lengths))) and len(steps) == count
    assert all(len(step) >= least and len(step) * lengths[step].max() <= sampler.tokens for step in steps)


@settings(max_examples=60)
@given(count=st.integers(12, 150), tokens=st.integers(180, 600), epoch=st.integers(0, 3), **PARTS)
def test_a_step_is_dealt_out_to_devices_and_micro_batches(count, tokens, epoch, world, accumulate):
    cards, parts = encoded(count, unlabelled=0.4), world * accumulate
    assume(affordable(cards, tokens, parts))
    loaders = [loader(cards, tokens, rank, world, accumulate) for rank in range(world)]
    for each in loaders:
        each.set_epoch(epoch)
    dealt = [list(each) for each in loaders]
    assert {len(batches) for batches in dealt} == {len(loaders[0])}
    seen = []
    for start in range(0, len(loaders[0]), accumulate):
        together = [batch for batches in dealt for batch in batches[start : start + accumulate]]
        rows = torch.cat([batch.row for batch in together])
        known = torch.cat([batch.target["label"] for batch in together]) >= 0
        assert sum(batch.inputs["input_ids"].numel() for batch in together) <= tokens
        for batch in together:  # the mean over micro-batches of (sum / rows) is (sum / rows of the step)
            assert batch.size["rows"] * parts == pytest.approx(len(rows))
            assert batch.size["labelled"] * parts == pytest.approx(int(known.sum()))
        seen.append(set(rows.tolist()))
    assert sorted(row for rows in seen for row in rows) == list(range(count))
    alone = loader(cards, tokens)
    alone.set_epoch(epoch)
    if min(map(len, alone.plan(epoch))) >= parts:  # else a step that is too small to deal out takes rows of others
        assert [set(batch.row.tolist()) for batch in alone] == seen


@settings(max_examples=30)
@given(
    stop=st.integers(0, 30), count=st.integers(12, 150), tokens=st.integers(200, 600), epoch=st.integers(0, 3), **PARTS
)
def test_a_restored_loader_goes_on_where_the_other_stopped(stop, count, tokens, epoch, world, accumulate):
    cards = encoded(count)
    assume(affordable(cards, tokens, world * accumulate))
    first, second = (loader(cards, tokens, 0, world, accumulate) for _ in range(2))
    goes_on(first, second, epoch, stop)


@settings(max_examples=40)
@given(
    count=st.integers(40, 300), tokens=st.integers(60, 500), epochs=st.integers(1, 4), until=st.floats(0.05, 1),
    parts=st.integers(1, 3), seed=st.integers(0, 5),
)  # fmt: skip
def test_a_curriculum_has_as_many_steps_in_every_epoch_and_its_own_rows(count, tokens, epochs, until, parts, seed):
    cards, pace = encoded(count, seed), Length(0.1, until)
    assume(affordable(cards, tokens, 3 * parts))
    made = loader(cards, tokens, accumulate=parts)
    size = max(1, count // made.steps)
    made.group(lambda epoch: pace.groups(made.costs, size, seed, float(epochs), epoch), float(epochs))
    for epoch in range(epochs):
        steps = made.plan(epoch)
        assert len(steps) * parts == len(made)
        meant = np.concatenate(pace.groups(made.costs, size, seed, float(epochs), epoch))
        assert Counter(np.concatenate(steps).tolist()) == Counter(meant.tolist())
        for step in steps:
            assert len(step) >= parts and len(step) * made.costs[step].max() <= tokens
            assert len(set(step.tolist())) == len(step), "no step holds a row twice"


def test_near_lengths_meet_anew_every_epoch_and_steps_come_in_no_order_of_length():
    cards = encoded(3000)
    made = loader(cards, 150)
    plans = [made.plan(epoch) for epoch in range(2)]
    partners = [{row: frozenset(step.tolist()) for step in plan for row in step.tolist()} for plan in plans]
    common = [len(partners[0][row] & partners[1][row]) / len(partners[0][row]) for row in range(3000)]
    assert np.mean(np.array(common)[made.costs >= 4]) < 0.2, "by chance it is 0.14"
    means = [made.costs[step].mean() for step in plans[0]]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.2
    short, long = (np.array([len(step) for step in plans[0] if test(made.costs[step].mean())]) for test in (
        lambda mean: mean <= 5, lambda mean: mean >= 15,
    ))  # fmt: skip
    assert short.mean() > 2.5 * long.mean()


def test_padding_is_what_the_batches_hold_and_a_budget_is_well_used():
    cards = encoded(2000)
    made = loader(cards, 600, accumulate=2)
    batches = list(made)
    padded = sum(batch.inputs["input_ids"].numel() for batch in batches)
    real = sum(int(batch.inputs["attention_mask"].sum()) for batch in batches)
    assert made.padding() == pytest.approx(1 - real / padded)
    assert made.padding() < 0.05
    assert padded / (600 * made.steps) > 0.9
    plain = TrainLoader(cards, np.arange(2000), 40, batch_sampler=FixedSize(40))
    assert 0 <= plain.padding() < 0.1


@pytest.mark.parametrize(
    ("tokens", "count", "parts", "said"),
    [
        (18, 50, 1, r"tokens_per_batch=18 cannot hold a text of 19 tokens .* raise it to 19 or more"),
        (75, 50, 4, r"for each of 1 devices times trainer.accumulate_grad_batches=4: raise it to 76 or more"),
        (100, 9, 5, r"makes 2 optimizer steps of 9 training rows, too few to deal out to 1 devices"),
    ],
)
def test_a_budget_that_is_too_small_is_told(tokens, count, parts, said):
    with pytest.raises(UserError, match=said):
        loader(encoded(count), tokens, accumulate=parts)


def test_the_datamodule_cuts_by_tokens_and_says_how_large_a_step_is(tmp_path):
    data = Table(path=saved(toy(), tmp_path / "a.csv"), tokenizer=TOKENIZER, tokens_per_batch=60, batch_size=2)
    data.setup()
    made, lengths = data.train_dataloader(), data.lengths
    sizes = [len(rows) for rows in made.plan(0)]
    assert max(sizes) > 2, "batch_size is not used"
    assert max(len(rows) * lengths[rows].max() for rows in made.plan(0)) <= data.tokens_per_step == 60
    assert data.rows_per_step == len(data.splits["train"]) // len(made)
    plain = Table(path=saved(toy(), tmp_path / "a.csv"), tokenizer=TOKENIZER, batch_size=4)
    plain.setup()
    assert plain.rows_per_step == 4
    assert plain.tokens_per_step == 4 * lengths[plain.splits["train"]].max()
    with pytest.raises(UserError, match=r"datamodule\.tokens_per_batch is 0, and must be 1 or more"):
        Table(path="a.csv", tokenizer=TOKENIZER, tokens_per_batch=0)


def test_batches_are_pinned_where_they_go_to_a_gpu(tmp_path, monkeypatch):
    """Pinning itself needs a GPU; what is pinned, and when, does not."""
    asked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: asked.append(tensor.data_ptr()) or tensor.clone())
    data = Table(path=saved(toy(), tmp_path / "a.csv"), tokenizer=TOKENIZER)
    data.setup()
    assert next(iter(data.train_dataloader())) and next(iter(data.val_dataloader())) and not asked

    class Trainer:
        accumulate_grad_batches, overfit_batches, global_rank, world_size = 1, 0, 0, 1

        class strategy:  # noqa: N801
            root_device = torch.device("cuda", 0)

    data.trainer = Trainer
    for loader_of in (data.train_dataloader, data.val_dataloader, data.test_dataloader):
        asked.clear()
        batch = next(iter(loader_of()))
        tensors = [batch.row, *batch.inputs.values(), *batch.target.values(), batch.tokens]
        assert len(asked) == len(tensors) == 5 and isinstance(batch.size["rows"], float)
