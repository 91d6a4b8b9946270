"""Easy rows first: the pace, what comes when, and that nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy
from test_datamodule_batch import encoded
from test_datamodule_text import TOKENIZER, saved, toy

from kdlab.datamodule.batch import TrainLoader
from kdlab.datamodule.curriculum.length import Length
from kdlab.datamodule.curriculum.teacher import Teacher, hardness
from kdlab.datamodule.table import Table
from kdlab.error import UserError

SIZES = {"count": st.integers(1, 400), "size": st.integers(1, 40), "seed": st.integers(0, 9)}
PACE = {"start": st.floats(0.01, 1), "until": st.floats(0.05, 1), "power": st.floats(1, 4)}


def loader(count, size, seed, curriculum=None, epochs=1.0, least=1):
    made = TrainLoader(encoded(count, seed), np.arange(count), size, seed, accumulate=least)
    if curriculum is not None:
        hard = curriculum.difficulty(made.costs)
        made.group(lambda epoch: curriculum.groups(hard, size, seed, epochs, epoch), epochs)
    return made


@given(**PACE, moment=st.floats(0, 1))
def test_competence_is_the_papers_and_never_falls_behind_the_run(start, until, power, moment):
    pace = Length(start, until, power)
    assert pace.competence(0.0) == pytest.approx(start) and pace.competence(until) == pace.competence(1.0) == 1
    if moment < until:
        assert pace.competence(moment) == pytest.approx(
            min(1, (moment * (1 - start**power) / until + start**power) ** (1 / power))
        )
    assert pace.competence(moment) >= moment - 1e-9


@given(**SIZES, **PACE, epochs=st.integers(1, 4))
def test_steps_keep_their_number_and_sizes_and_every_row_is_seen_at_the_end(
    count, size, seed, start, until, power, epochs
):
    curriculum = Length(start, until, power)
    plain, mine = loader(count, size, seed), loader(count, size, seed, curriculum, float(epochs))
    for epoch in range(epochs):
        one, two = plain.plan(epoch), mine.plan(epoch)
        assert sorted(map(len, one)) == sorted(map(len, two)) and len(mine) == len(two)
        assert all(len(np.unique(rows)) == len(rows) for rows in two), "no step holds a row twice"
        seen = np.bincount(np.concatenate(two), minlength=count)
        if epochs == 1 or epoch == epochs - 1 or epoch / epochs >= until:
            assert (seen == 1).all()


@given(**SIZES)
def test_rows_come_from_within_the_competence(count, size, seed):
    pace = Length(0.1, 1.0)
    hard = np.random.default_rng(seed).permutation(count)
    steps = max(1, count // size)
    done = 0
    for group in pace.groups(hard, size, seed, 2.0, 0):
        done += len(group)
        moment = min(1.0, done // size / steps) / 2
        assert hard[group].max() <= max(len(group), np.ceil(pace.competence(moment) * count)) - 1


def test_is_a_function_of_seed_and_epoch_and_mixes_within_them():
    plans = {
        (seed, epoch): np.concatenate(loader(300, 10, seed, Length(), 3.0).plan(epoch)).tolist()
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    again = np.concatenate(loader(300, 10, 1, Length(), 3.0).plan(1)).tolist()
    assert again == plans[1, 1] and len({tuple(plan) for plan in plans.values()}) == 4


def test_lengths_rise_over_an_epoch_and_batches_still_pad_little():
    made = loader(2000, 20, 0, Length(start=0.05, until=1.0))
    means = [made.costs[rows].mean() for rows in made.plan(0)]
    first, last = np.mean(means[:20]), np.mean(means[-20:])
    assert first < 0.5 * last
    spread = np.mean([np.ptp(made.costs[rows]) for rows in made.plan(0)])
    rows = loader(2000, 20, 0)
    shuffled = np.mean([np.ptp(rows.costs[part]) for part in np.array_split(np.arange(2000), 100)])
    assert spread < 0.5 * shuffled


@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 99))
def test_hardness_is_scipys(rows, classes, seed):
    random = np.random.default_rng(seed)
    logits = 3 * random.standard_normal((rows, classes))
    codes = random.integers(-1, classes, rows)
    p = softmax(logits, -1)
    np.testing.assert_allclose(hardness(logits, codes, "entropy"), entropy(p, axis=-1))
    expected = [-np.log(p[i, code]) if code >= 0 else entropy(p[i]) for i, code in enumerate(codes)]
    np.testing.assert_allclose(hardness(logits, codes, "loss"), expected)
    several = random.integers(0, 2, (rows, classes)).astype(np.float32)
    sigmoid = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(
        hardness(logits, several, "loss"), -np.log(np.where(several, sigmoid, 1 - sigmoid)).mean(-1)
    )
    halves = np.stack([sigmoid, 1 - sigmoid], -1)
    np.testing.assert_allclose(hardness(logits, several, "entropy"), entropy(halves, axis=-1).mean(-1))


def test_a_teacher_is_asked_before_it_can_say_what_is_hard(tmp_path):
    made = Table(path=saved(toy(), tmp_path / "a.csv"), tokenizer=TOKENIZER, curriculum=Teacher())
    made.setup()
    with pytest.raises(UserError, match=r"datamodule\.curriculum\.run"):
        made.train_dataloader()
    logits = np.stack([np.arange(len(made.used)), np.zeros(len(made.used))], -1) / 10
    made.grade(logits)
    made.batch_size = 2
    first = made.train_dataloader().plan(0)[0]
    train = np.sort(made.splits["train"])
    assert set(first) <= set(train[-len(train) // 2 :]), "the teacher is surest of the last rows"


@pytest.mark.parametrize("wrong", [
    lambda: Length(start=0), lambda: Length(until=1.5), lambda: Length(power=0.5), lambda: Teacher(by="margin"),
    lambda: Length(until=True),
])  # fmt: skip
def test_what_cannot_work_is_told(wrong):
    with pytest.raises(UserError, match=r"datamodule\.curriculum"):
        wrong()
