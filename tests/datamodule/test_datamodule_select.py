"""Active selection: the scores' laws, and which labels are left under a budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy
from test_datamodule_text import TOKENIZER, saved, toy

from kdlab.datamodule import split
from kdlab.datamodule.select.disagreement import Disagreement
from kdlab.datamodule.select.entropy import Entropy
from kdlab.datamodule.select.margin import Margin
from kdlab.datamodule.table import Table
from kdlab.error import UserError

SHAPES = {"rows": st.integers(1, 6), "classes": st.integers(2, 5), "seed": st.integers(0, 99)}


@given(**SHAPES)
def test_scores_are_those_of_scipy(rows, classes, seed):
    one, two = 3 * np.random.default_rng(seed).standard_normal((2, rows, classes))
    p, q = softmax(one, -1), softmax(two, -1)
    np.testing.assert_allclose(Entropy("a").score([one]), entropy(p, axis=-1))
    ordered = np.sort(p, -1)
    np.testing.assert_allclose(Margin("a").score([one]), ordered[:, -2] - ordered[:, -1])
    expected = [jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(Disagreement("a", "b").score([one, two]), expected, atol=1e-12)


def test_what_is_certain_comes_last_and_a_copy_never_disagrees():
    logits = np.array([[9.0, 0.0], [0.1, 0.0], [2.0, 0.0]])
    for choice in (Entropy("a"), Margin("a")):
        assert np.argsort(-choice.score([logits])).tolist() == [1, 2, 0]
    np.testing.assert_allclose(Disagreement("a", "b").score([logits, logits]), 0, atol=1e-12)
    extreme = np.array([[1e4, -1e4]])
    assert np.isfinite(Entropy("a").score([extreme])).all()
    assert Disagreement("a", "b").score([extreme, -extreme])[0] == pytest.approx(np.log(2))


def data(tmp_path, **options) -> Table:
    made = Table(path=saved(toy(), tmp_path / "a.csv"), tokenizer=TOKENIZER, **options)
    made.setup()
    return made


@pytest.mark.parametrize("unlabelled", ["keep", "drop"])
@pytest.mark.parametrize("how", [{"budget": 7}, {"per_class": 3}])
def test_the_rows_of_the_highest_score_keep_their_labels(tmp_path, how, unlabelled):
    made = data(tmp_path, select=Entropy("a"), unlabelled=unlabelled, **how)
    whole, truth = made.splits["train"].copy(), [int(each[-1]) for each in toy()["label"]]
    assert len(whole) > 30, "all are there to be chosen from"
    score = np.random.default_rng(0).random(len(made.used))
    made.choose(score)
    by_row = dict(zip(np.unique(np.concatenate([whole, made.splits["val"], made.splits["test"]])), score, strict=True))
    kept = [row for row in whole if made.encoded.codes[row] >= 0]
    ranked = sorted(whole, key=lambda row: -by_row[row])
    if "budget" in how:
        expected = ranked[:7]
    else:
        expected = [row for code in (0, 1) for row in [r for r in ranked if truth[r] == code][:3]]
    assert sorted(kept) == sorted(expected)
    assert sum(made.label_counts) == len(expected)
    assert len(made.splits["train"]) == (len(whole) if unlabelled == "keep" else len(expected))
    assert (made.encoded.codes[made.splits["val"]] >= 0).all(), "labels to measure with are never taken away"


@given(count=st.integers(0, 12), seed=st.integers(0, 9))
def test_a_budget_is_exact_and_grows_with_the_number(count, seed):
    rows, order = np.arange(3, 15), split.priority([str(i) for i in range(20)], seed, "few")
    kept = split.afford(rows, count, order)
    assert len(kept) == count and set(split.afford(rows, max(0, count - 1), order)) <= set(kept) <= set(rows)


def test_without_a_model_the_seed_chooses_and_none_may_be_left(tmp_path):
    kept = [np.flatnonzero(data(tmp_path, budget=9, seed=seed).encoded.codes >= 0).tolist() for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]
    for how in ({"budget": 0}, {"per_class": 0}):
        assert data(tmp_path, **how).label_counts == [0, 0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": 999}, "datamodule.budget=999, but there are"),
        ({"budget": 3, "per_class": 1}, "both limit the number of labels"),
        ({"select": Margin("a")}, "datamodule.select needs a number of labels"),
    ],
)
def test_what_cannot_be_afforded_is_refused(tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        data(tmp_path, **options)
