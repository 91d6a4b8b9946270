"""What is to be predicted of each row, whatever its shape."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kdlab.datamodule.target import Labels, Tags


def test_one_label_several_labels_and_none():
    one = Labels(("a", "b"), np.array([1, -1, 0]))
    assert one.known.tolist() == [True, False, True] and not one.several
    assert one.counts(np.arange(3)) == [1, 1] and [one.answer(row) for row in range(3)] == [["b"], [], ["a"]]
    many = Labels(("a", "b"), np.array([[1, 1], [-1, -1], [0, 0]], np.float32))
    assert many.known.tolist() == [True, False, True] and many.several
    assert many.counts(np.arange(3)) == [1, 1] and [many.answer(row) for row in range(3)] == [["a", "b"], [], []]


@given(st.lists(st.none() | st.lists(st.integers(-1, 2), min_size=1, max_size=5), min_size=1, max_size=6), st.data())
def test_tags_stand_where_their_positions_stand(tags, data):
    target = Tags.of(["O", "B", "I"], tags)
    index = np.array(data.draw(st.permutations(range(len(tags)))))
    longest = max((len(row) for row in tags if row is not None), default=1)
    found = target.batch(index, longest)["label"]
    for place, row in enumerate(index):
        known = tags[row] or []
        assert found[place].tolist() == known + [-1] * (longest - len(known))
    assert target.counts(index) == [sum((row or []).count(tag) for row in tags) for tag in range(3)]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.integers(0, 5))
def test_a_hidden_row_has_no_answer(codes, row):
    row %= len(codes)
    for target in (Labels(("a", "b", "c"), np.array(codes)), Tags.of("abc", [[code] for code in codes])):
        hidden = target.hidden(np.array([row]))
        assert not hidden.known[row] and hidden.answer(row) == []
        assert (hidden.batch(np.array([row]), 1)["label"] == -1).all()
        assert sum(hidden.counts(np.arange(len(codes)))) == len(codes) - 1
        assert target.known.all(), "the original stays as it was"


@given(st.lists(st.integers(0, 1), min_size=1, max_size=4))
def test_rows_without_answers_keep_their_kind(codes):
    rows = np.arange(len(codes))
    several = Labels(("a", "b"), np.eye(2, dtype=np.float32)[codes])
    for target in (Labels(("a", "b"), np.array(codes)), several, Tags.of("ab", [[code] for code in codes])):
        found = target.unanswered(["x", "y", "z"])
        assert type(found) is type(target) and found.names == ("x", "y", "z") and found.several == target.several
        assert not found.known.any() and found.counts(rows) == [0, 0, 0]
        assert (found.batch(rows, 1)["label"] == -1).all()
