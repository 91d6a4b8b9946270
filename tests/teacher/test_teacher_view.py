"""Consistent teaching: the teacher reads what the student reads, live or from a store of one view an epoch."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from small import crossed, knob, nodes, options, same, shrink, small, tiny_teacher, train

from kdlab.artifact.trained import named
from kdlab.config import build, conf
from kdlab.datamodule.augment.base import Augment
from kdlab.datamodule.augment.word_dropout import WordDropout
from kdlab.datamodule.retokenized import RetokenizedRows
from kdlab.error import UserError
from kdlab.store import store
from kdlab.teacher.cached import Cached
from kdlab.teacher.live import Live
from kdlab.teacher.retokenized import Retokenized

AUGMENTS = options("datamodule/augment")
EPOCHS = 2


@pytest.fixture(scope="module")
def base(tmp_path_factory, reviews):
    """Makes a job of two epochs on few rows; ``augmented`` or ``clean`` views of one of the augmentations."""
    folder = tmp_path_factory.mktemp("view")
    with initialize_config_dir(str(conf()), version_base="1.3"):
        words = ["datamodule=table", f"datamodule.path={reviews}", f"outputs={folder}", "loss=hint"]
        job = small("distill", [*words, "datamodule.train_rows=48", "trainer.accumulate_grad_batches=2"])
        job = knob(crossed(job, student=shrink(job.cfg.student)), "optimizer.lr=1e-3", f"trainer.max_epochs={EPOCHS}")
        job.cfg.teacher.run = str(tiny_teacher(job, folder / "teacher"))
        job.cfg.student.tokenizer = job.cfg.teacher.run
        augments, teachers = nodes("datamodule/augment"), nodes("teacher")["teacher"]

        def made(augment, teacher="cached", reads="augmented", *more):
            node = augments["datamodule/augment"][augment].copy()
            node.probability, node.teacher, node.seed = 0.3, reads, 0
            own = crossed(job, datamodule=job.cfg.datamodule.copy(), trainer=job.cfg.trainer.copy())
            own.cfg.datamodule.augment, own.cfg.trainer.max_steps = node, -1
            if teacher == "live":
                own.cfg.teacher = teachers["live"].copy()
                own.cfg.teacher.run = job.cfg.teacher.run
            return knob(own, *more)

        yield made


@pytest.mark.slow
@pytest.mark.parametrize("augment", AUGMENTS)
def test_a_stored_view_is_what_a_live_teacher_says(base, augment):
    live, cached = (train(base(augment, teacher)) for teacher in ("live", "cached"))
    assert len(live.losses) == 2 * 3 * EPOCHS
    np.testing.assert_allclose(live.losses, cached.losses, rtol=1e-5, atol=1e-5)
    assert max(float((live.after[name] - cached.after[name]).abs().max()) for name in live.after) < 1e-5
    clean = train(base(augment, "cached", "clean"))
    assert not np.allclose(clean.losses, cached.losses, rtol=1e-3), "on the clean text it says something else"


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("taps", [["hidden.1", "attention.-1", "pooled"]])
def test_every_tap_of_a_view_is_that_of_a_live_teacher(base, augment, taps):
    job = base(augment)
    data = build.data(job.cfg)
    task = build.task(job.cfg, data)
    saved = named(job.cfg.teacher.run, Path(job.cfg.outputs))
    folder = Path(job.cfg.outputs) / "taps"
    cached = Cached(saved, task, data, taps, folder / augment, epochs=EPOCHS)
    live = Live(saved.model, task, data, taps, folder)
    loader = data.train_dataloader()
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        for batch in loader:
            one, two = live.read(task, batch), cached.read(task, batch)
            torch.testing.assert_close(one.logits, two.logits, rtol=1e-5, atol=1e-5)
            assert torch.equal(one.tokens, two.tokens)
            for name in taps:
                keep = one.tokens[:, :, None] if name == "hidden.1" else torch.ones(1, 1, 1, dtype=torch.bool)
                if name == "attention.-1":
                    keep = (one.tokens[:, :, None] & one.tokens[:, None])[:, None]
                if name == "pooled":
                    keep = torch.ones(1, dtype=torch.bool)
                torch.testing.assert_close(one.taps[name] * keep, two.taps[name] * keep, rtol=1e-5, atol=1e-5)
    for batch in data.val_dataloader():
        torch.testing.assert_close(live.read(task, batch).logits, cached.read(task, batch).logits, rtol=1e-5, atol=1e-5)


def test_the_largest_logits_of_a_view_are_those_of_a_live_teacher(base):
    job = base(AUGMENTS[0])
    data = build.data(job.cfg)
    task = build.task(job.cfg, data)
    saved = named(job.cfg.teacher.run, Path(job.cfg.outputs))
    folder = Path(job.cfg.outputs) / "top"
    cached = Cached(saved, task, data, (), folder, epochs=EPOCHS, top_k=1, top_k_dtype="float32")
    live = Live(saved.model, task, data, (), folder, top_k=1)
    tails, loader = [], data.train_dataloader()
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        for batch in loader:
            one, two = live.read(task, batch).top, cached.read(task, batch).top
            assert torch.equal(one.index, two.index)
            torch.testing.assert_close(one.tail, two.tail, rtol=1e-4, atol=1e-5)
            tails += zip(batch.row.tolist(), two.tail[..., 0].flatten().tolist(), strict=True)
    assert len(set(tails)) > len({row for row, _ in tails}), "a row is not the same in each epoch"


@pytest.mark.slow
def test_a_longer_run_reuses_the_views_of_a_shorter_and_another_seed_has_its_own(base):
    outputs = Path(base(AUGMENTS[0]).cfg.outputs)
    shutil.rmtree(outputs / "store", ignore_errors=True)

    def stores():
        return {path.parent.name for path in (outputs / "store").glob("*/meta.json")}

    short = train(base(AUGMENTS[0], "cached", "augmented", "trainer.max_epochs=1"))
    first = stores()
    assert len(first) == 2, "the clean rows, and a view of those that train"
    before = {name: (outputs / "store" / name / "meta.json").read_text() for name in first}
    longer = train(base(AUGMENTS[0]))
    assert first < stores() and len(stores()) == 3
    assert before == {name: (outputs / "store" / name / "meta.json").read_text() for name in first}, "not built again"
    assert short.losses[0] == longer.losses[0]
    train(base(AUGMENTS[0], "cached", "augmented", "datamodule.augment.seed=7", "trainer.max_epochs=1"))
    assert len(stores()) == 4
    train(base(AUGMENTS[0], "cached", "clean"))
    assert len(stores()) == 4, "clean rows are stored once for all"


def test_the_disk_is_told_before_the_first_view_is_built(base, monkeypatch):
    job = base(AUGMENTS[0], "cached", "augmented", "datamodule.augment.seed=11", "trainer.max_epochs=200")
    train(base(AUGMENTS[0], "cached", "clean"))
    folder = Path(job.cfg.outputs) / "store"
    before = {path.name for path in folder.iterdir()}
    usage = shutil.disk_usage(folder)._replace(free=10**6)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"targets of 200 epochs need [\d,]+ MB in .* where 1 MB are free: make room"):
        train(job)
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize("epochs", ["-1", "null"])
def test_a_run_without_a_number_of_epochs_cannot_store_its_views(base, epochs):
    job = base(AUGMENTS[0], "cached", "augmented", f"trainer.max_epochs={epochs}", "trainer.max_steps=3")
    with pytest.raises(UserError, match=r"trainer\.max_epochs=\S+ gives no number of epochs: set it, or"):
        train(job)
    assert len(train(base(AUGMENTS[0], "live", "augmented", "trainer.max_epochs=-1", "trainer.max_steps=3")).steps) == 3


class Unseeded(Augment):
    """Of a user who forgot the seed."""

    def change(self, ids, random):
        return ids, np.ones(len(ids), bool)


class Restless(Unseeded):
    """Of a user who draws from elsewhere."""

    seed = 0

    def change(self, ids, random):
        return np.random.default_rng().permutation(ids), np.ones(len(ids), bool)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(Unseeded, "Unseeded has no seed"), (Restless, "Restless changes a row of an epoch differently each time")],
)
def test_what_no_seed_decides_cannot_be_stored(base, kind, said):
    data = build.data(base(AUGMENTS[0]).cfg)
    data.augment = kind()
    data.augment.teacher = "augmented"
    with pytest.raises(UserError, match=said):
        data.augmented_rows(0).fingerprint  # noqa: B018  asking is what fails


def test_a_view_is_what_the_loader_deals_in_that_epoch(base):
    data = build.data(base(AUGMENTS[0]).cfg)
    loader = data.train_dataloader()
    loader.set_epoch(1)
    dealt = {}
    for batch in loader:
        assert batch.view == 1 and batch.clean is None
        dealt |= {row: ids[: data.lengths[row]].tolist() for row, ids in _rows(batch)}
    seen = {
        row: ids[: data.lengths[row]].tolist()
        for batch in data.augmented_rows(1).every_row(64)
        for row, ids in _rows(batch)
    }
    assert seen == dealt and sorted(seen) == data.augmented_rows(1).used.tolist()
    assert data.augmented_rows(0).fingerprint != data.augmented_rows(1).fingerprint
    assert next(iter(data.val_dataloader())).view is None and data.every_row()[0].view is None


def test_a_teacher_with_a_tokenizer_of_its_own_cannot_read_the_students_tokens(base):
    data = build.data(base(AUGMENTS[0]).cfg)
    view = data.retokenized(data.processor)
    assert isinstance(view, RetokenizedRows) and view.augmented
    with pytest.raises(UserError, match=r"datamodule\.augment\.teacher=augmented .* a tokenizer of its own"):
        Retokenized(SimpleNamespace(seconds=0.0), view)


def test_another_word_is_refused():
    with pytest.raises(UserError, match=r"datamodule\.augment\.teacher is 'both', but must be clean"):
        WordDropout(teacher="both")


def test_the_same_weights_come_out_of_a_stored_run_twice(base):
    one, two = (train(base(AUGMENTS[0])) for _ in range(2))
    assert same(one.after, two.after)


def _rows(batch):
    return zip(batch.row.tolist(), batch.inputs["input_ids"], strict=True)
