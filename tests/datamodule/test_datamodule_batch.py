"""Laws of the loaders: every row once, little padding, the same steps on any number of devices, an exact resume."""

from contextlib import suppress

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.datamodule.batch import EncodedRows, EvalLoader, TrainLoader, within
from kdlab.datamodule.rows import Rows
from kdlab.datamodule.sampler import FixedSize
from kdlab.datamodule.target import Labels
from kdlab.error import UserError


def encoded(count: int, seed: int = 0, unlabelled: float = 0.0) -> EncodedRows:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 20, count)
    offsets = np.concatenate([[0], lengths.cumsum()])
    codes = np.where(random.random(count) < unlabelled, -1, random.integers(0, 2, count))
    return EncodedRows(Rows(np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets), Labels((), codes))


def goes_on(first: TrainLoader, second: TrainLoader, epoch: int, stop: int) -> None:
    """The law that a loader which is given the state of another gives the batches that the other still had."""
    first.set_epoch(epoch)
    batches = iter(first)
    for _ in range(stop % len(first)):
        next(batches)
    second.load_state_dict(first.state_dict())
    second.set_epoch(epoch)
    rest = [batch.row.tolist() for batch in batches]
    assert [batch.row.tolist() for batch in second] == rest
    assert [len(list(second)), len(second)] == [len(first)] * 2, "and then whole epochs again"


SHAPES = {
    "count": st.integers(12, 150),
    "size": st.integers(12, 40),
    "world": st.integers(1, 3),
    "accumulate": st.integers(1, 4),
    "epoch": st.integers(0, 3),
}


@settings(deadline=None, max_examples=60)
@given(**SHAPES)
def test_every_row_once_and_steps_do_not_depend_on_devices_or_accumulation(count, size, world, accumulate, epoch):
    cards = encoded(count, unlabelled=0.4)
    parts = world * accumulate
    loaders = [TrainLoader(cards, np.arange(count), size, 5, rank, world, accumulate) for rank in range(world)]
    for loader in loaders:
        loader.set_epoch(epoch)
    dealt = [list(loader) for loader in loaders]
    assert {len(batches) for batches in dealt} == {len(loaders[0])}
    assert len(loaders[0]) % accumulate == 0
    seen = []
    for start in range(0, len(loaders[0]), accumulate):
        together = [batch for batches in dealt for batch in batches[start : start + accumulate]]
        rows = torch.cat([batch.row for batch in together])
        known = torch.cat([batch.target["label"] for batch in together]) >= 0
        assert all(len(batch.row) for batch in together)
        for batch in together:  # the mean over micro-batches of (sum / rows) is (sum / rows of the step)
            assert batch.size["rows"] * parts == pytest.approx(len(rows))
            assert batch.size["labelled"] * parts == pytest.approx(int(known.sum()))
        seen.append(rows)
    assert torch.cat(seen).sort().values.tolist() == list(range(count))
    if count % size == 0 or count % size >= 12:  # else the short last step may join another when there are many parts
        alone = TrainLoader(cards, np.arange(count), size, 5)
        alone.set_epoch(epoch)
        assert [set(batch.row.tolist()) for batch in alone] == [set(rows.tolist()) for rows in seen]


@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 40), st.integers(1, 3))
def test_evaluation_sees_every_row_once(count, size, world):
    if count < world:
        return
    cards = encoded(count, unlabelled=0.2)
    dealt = [list(EvalLoader(cards, np.arange(count), size, rank, world)) for rank in range(world)]
    assert len({len(batches) for batches in dealt}) == 1
    batches = [batch for each in dealt for batch in each]
    assert sorted(torch.cat([batch.row for batch in batches]).tolist()) == list(range(count))
    assert all(batch.size["rows"] == len(batch.row) <= size + 1 for batch in batches)
    assert all(batch.size["labelled"] == (batch.target["label"] >= 0).sum() for batch in batches)


@settings(deadline=None)
@given(st.sets(st.integers(0, 79), min_size=1), st.integers(1, 200))
def test_within_keeps_the_budget(rows, tokens):
    cards = encoded(80)
    lengths, batches = cards.rows.lengths, within(cards, np.array(sorted(rows)), tokens)
    assert sorted(np.concatenate(batches.groups).tolist()) == sorted(rows)
    for group, batch in zip(batches.groups, batches, strict=True):
        assert batch.row.tolist() == group.tolist() and batch.inputs["input_ids"].shape == (
            len(group),
            lengths[group].max(),
        )
        assert len(group) == 1 or batch.inputs["input_ids"].numel() <= tokens
    order = np.concatenate(batches.groups)
    assert lengths[order].tolist() == sorted(lengths[order], reverse=True)


@given(st.lists(st.integers(0, 29), min_size=1, max_size=12))
def test_padding_reaches_the_longest_row_and_keeps_every_token(index):
    cards = encoded(30)
    batch = cards.batch(np.array(index))
    lengths = cards.rows.lengths[index]
    assert batch.inputs["input_ids"].shape == batch.inputs["attention_mask"].shape == (len(index), lengths.max())
    for place, row in enumerate(index):
        ids, mask = batch.inputs["input_ids"][place], batch.inputs["attention_mask"][place].bool()
        start, end = cards.rows.offsets[row : row + 2]
        assert ids[mask].tolist() == cards.rows.tokens[start:end].tolist()
        assert (ids[~mask] == 0).all() and mask.sum() == lengths[place] and mask[: lengths[place]].all()
    assert {one.dtype for one in (batch.row, *batch.inputs.values(), *batch.target.values())} == {torch.int64}


def test_length_pools_save_padding_and_stay_random():
    lengths = np.random.default_rng(0).integers(1, 100, 2000)

    def fill(groups):
        return lengths.sum() / sum(len(group) * lengths[group].max() for group in groups)

    epochs = [FixedSize(20).steps(lengths, 1, 0, epoch) for epoch in range(2)]
    assert fill(epochs[0]) > 0.93 > 0.6 > fill(np.split(np.arange(2000), 100))
    assert [group.tolist() for group in epochs[0]] != [group.tolist() for group in epochs[1]]
    means = [lengths[group].mean() for group in epochs[0]]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.3, "no curriculum from short to long"


@settings(deadline=None, max_examples=40)
@given(stop=st.integers(0, 30), **SHAPES)
def test_a_restored_loader_goes_on_where_the_other_stopped(stop, count, size, world, accumulate, epoch):
    cards = encoded(count)
    first, second = (TrainLoader(cards, np.arange(count), size, 1, 0, world, accumulate) for _ in range(2))
    goes_on(first, second, epoch, stop)


@pytest.mark.parametrize(("count", "size"), [(3, 32), (40, 3)])
def test_a_step_too_small_to_deal_out(count, size):
    with pytest.raises(UserError, match=r"2 devices times trainer.accumulate_grad_batches=2: lower"):
        TrainLoader(encoded(count), np.arange(count), size, world=2, accumulate=2)


class Watch(L.LightningModule):
    """Writes down the rows it is given, and stops the trainer at a step if told to."""

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, list[int]]] = []
        self.stop = stop

    def training_step(self, batch, index):
        if len(self.seen) == self.stop:
            raise KeyboardInterrupt
        self.seen.append((self.trainer.current_epoch, batch.row.tolist()))
        return self.weight.sum() * 0

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(module, folder, *, accumulate=1, every=None, path=None):
    """Three epochs of ten micro-batches; a checkpoint every ``every`` steps, or (None) at the end of each epoch."""
    keep = L.pytorch.callbacks.ModelCheckpoint(
        folder, every_n_train_steps=every, every_n_epochs=None if every else 1, save_last=True, save_top_k=1
    )
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        callbacks=[keep],
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=accumulate,
    )
    cards, rows = encoded(50), np.arange(50)
    train = TrainLoader(cards, rows, 5 * accumulate, seed=3, accumulate=accumulate)
    assert len(train) == 10
    with suppress(KeyboardInterrupt, SystemExit):
        trainer.fit(module, train, EvalLoader(cards, rows[:8], 4), ckpt_path=path, weights_only=False)
    return trainer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("every", "stop", "accumulate"),
    [(1, 4, 1), (1, 10, 1), (1, 14, 1), (3, 14, 1), (None, 14, 1), (None, 23, 1), (2, 17, 2), (5, 12, 2)],
)
def test_a_killed_training_sees_the_rows_it_would_have_seen(tmp_path, every, stop, accumulate):
    whole = Watch()
    fit(whole, tmp_path / "whole", accumulate=accumulate, every=every)
    assert len(whole.seen) == 30
    for epoch in range(3):
        assert sorted(row for at, rows in whole.seen if at == epoch for row in rows) == list(range(50))
    killed, resumed = Watch(stop), Watch()
    fit(killed, tmp_path / "killed", accumulate=accumulate, every=every)
    assert killed.seen == whole.seen[:stop]
    trainer = fit(
        resumed, tmp_path / "again", accumulate=accumulate, every=every, path=tmp_path / "killed" / "last.ckpt"
    )
    kept = stop - stop % 10 if every is None else stop // (every * accumulate) * every * accumulate
    assert resumed.seen == whole.seen[kept:]
    assert trainer.global_step == 30 // accumulate
