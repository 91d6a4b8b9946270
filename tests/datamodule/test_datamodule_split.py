"""Laws of the splits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.datamodule import split
from kdlab.error import UserError

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(sum)


@given(COUNTS, st.integers(0, 300))
def test_apportion_sums_up_and_is_within_one_of_the_exact_share(counts, total):
    counts = np.array(counts)
    shares = split.apportion(counts, total)
    wanted = min(total, counts.sum())
    assert shares.sum() == wanted
    assert (shares <= counts).all() and (shares >= 0).all()
    assert np.abs(shares - counts * wanted / counts.sum()).max() < 1


@settings(deadline=None)
@given(st.lists(st.integers(-1, 2), min_size=60, max_size=200), st.integers(0, 5))
def test_cut_is_a_partition_stratified_and_blind_to_the_order_of_rows(classes, seed):
    classes = np.array([0, 1, 2] * 10 + classes)
    texts = [f"text {i}" for i in range(len(classes))]
    order = split.priority(texts, seed, "split")
    splits = split.cut(classes, None, order, 0.2, 0.3)
    assert np.array_equal(np.sort(np.concatenate(list(splits.values()))), np.arange(len(classes)))
    for name, fraction in (("val", 0.2), ("test", 0.3)):
        assert (classes[splits[name]] >= 0).all()
        for code in range(3):
            share = fraction * (classes == code).sum()
            assert abs((classes[splits[name]] == code).sum() - share) < 2.5, "within rounding, twice"
    assert [len(splits["val"]), len(splits["test"])] == [round(f * (classes >= 0).sum()) for f in (0.2, 0.3)]
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    again = split.cut(classes[shuffled], None, order[shuffled], 0.2, 0.3)
    for name in splits:
        assert {texts[row] for row in splits[name]} == {texts[shuffled[row]] for row in again[name]}


def test_seeds_and_purposes_differ():
    texts = [str(i) for i in range(50)]
    one, two, three = (
        split.priority(texts, *how).argsort().tolist() for how in ((0, "split"), (1, "split"), (0, "few"))
    )
    assert one != two and one != three
    assert len(set(split.priority(["好", "好"], 0, "split").tolist())) == 1


def test_given_splits_are_kept_and_what_is_lacking_is_cut_from_train():
    classes = np.array([0, 1] * 20)
    given_split = ["train"] * 30 + ["test"] * 10
    splits = split.cut(classes, given_split, np.arange(40), 0.2, 0.5)
    assert splits["test"].tolist() == list(range(30, 40))
    assert len(splits["val"]) == 6 and splits["val"].max() < 30
    assert len(splits["train"]) == 24
    hidden = np.where(np.arange(40) < 30, classes, -1)  # a test split without labels cannot be tested on
    splits = split.cut(hidden, given_split, np.arange(40), 0.2, 0.2)
    assert len(splits["test"]) == 6 and splits["test"].max() < 30


@pytest.mark.parametrize(
    ("val", "test", "message"),
    [
        (0.0, 0.1, "the val split has no labelled rows: raise datamodule.val_fraction"),
        (0.1, 0.0, "the test split has no labelled rows: raise datamodule.test_fraction"),
        (0.5, 0.5, "leave no labelled training rows"),
        (-0.1, 0.5, "datamodule.val_fraction is -0.1"),
        (0.1, 1.0, "datamodule.test_fraction is 1.0"),
    ],
)
def test_fractions_that_cannot_work(val, test, message):
    with pytest.raises(UserError, match=message):
        split.cut(np.array([0, 1] * 20), None, np.arange(40), val, test)


@pytest.mark.parametrize(
    ("given_split", "unlabelled", "message"),
    [
        (["test"] * 40, 0, r"the data has no training row \(40 test\).*split_column=null"),
        (["val"] * 10 + ["test"] * 30, 0, r"no training row \(10 val, 30 test\)"),
        (["train"] * 20 + ["test"] * 20, 20, "no training row has a label, so that none can be cut off"),
    ],
)
def test_a_split_that_cannot_be_cut_says_what_is_the_case(given_split, unlabelled, message):
    classes = np.array([-1] * unlabelled + [0, 1] * ((40 - unlabelled) // 2))
    with pytest.raises(UserError, match=message):
        split.cut(classes, given_split, np.arange(40), 0.1, 0.1)


def test_a_fraction_that_is_less_than_a_row_is_told_with_the_rows():
    with pytest.raises(UserError, match=r"raise datamodule.test_fraction \(0.1 of 3 labelled rows is none\)"):
        split.cut(np.array([0, 1, 0]), None, np.arange(3), 0.1, 0.1)


@given(st.integers(1, 5), st.integers(0, 3))
def test_few_is_exact_and_grows_with_the_number(per_class, seed):
    classes = np.array([0] * 9 + [1] * 5 + [-1] * 4)
    order = split.priority([str(i) for i in range(18)], seed, "few")
    rows = split.few(np.arange(18), classes, per_class, order, ["a", "b"])
    assert np.bincount(classes[rows]).tolist() == [per_class, per_class]
    if per_class > 1:
        assert set(split.few(np.arange(18), classes, per_class - 1, order, ["a", "b"])) < set(rows)


def test_few_says_how_many_there_are():
    with pytest.raises(UserError, match="per_class=6, but the label 'b' has 5 labelled training rows"):
        split.few(np.arange(14), np.array([0] * 9 + [1] * 5), 6, np.arange(14), ["a", "b"])
