"""Two tokenisations of one text: the groups are the shortest pieces that both begin and end with whole tokens."""

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.alignment import INSIDE, NO_TEXT, Alignment, groups

NONE = torch.zeros(2, 0, dtype=torch.int64)
cuts = st.sets(st.integers(1, 19))


def ends(found, begin, cut=20):
    """The ends of the tokens of a text of 20 characters, perhaps with a token before it, perhaps cut."""
    tokens = [one for one in [*sorted(found), 20] if one <= cut] or [20]
    return np.array([NO_TEXT] * begin + tokens)


def pieces(ends, numbers):
    """From group to the part of the text that its tokens cover."""
    begin, found = 0, {}
    for end, number in zip(ends.tolist(), numbers.tolist(), strict=True):
        if end == NO_TEXT:
            continue
        if number >= 0:
            first, _ = found.get(number, (begin, end))
            found[number] = (first, end)
        begin = end
    return found


@settings(max_examples=60, deadline=None)
@given(cuts, cuts, st.booleans(), st.booleans(), st.integers(5, 20), st.integers(5, 20))
def test_both_sides_of_a_group_are_the_same_text_and_no_group_could_be_split(one, two, bos, other_bos, cut, other_cut):
    first, second = ends(one, bos, cut), ends(two, other_bos, other_cut)
    s, t = groups(first, second)
    covered = pieces(first, s)
    assert covered == pieces(second, t) and sorted(covered) == list(range(len(covered)))
    assert s[0] == t[0] == -1  # nothing predicts the first token
    # written out: all ends that both sides have, from the first that both predict to the last
    sides = [
        {0, *side.tolist()} - {NO_TEXT} - ({0} if not lead else set())
        for side, lead in ((first, bos), (second, other_bos))
    ]
    shared = sorted(sides[0] & sides[1])
    assert list(covered.values()) == list(itertools.pairwise(shared))


@settings(max_examples=20, deadline=None)
@given(cuts, st.booleans())
def test_the_same_tokens_are_a_group_each(found, bos):
    one = ends(found, bos)
    s, t = groups(one, one)
    assert s.tolist() == t.tolist() == [-1, *range(len(one) - 1)]


def test_one_side_may_begin_with_a_token_that_is_no_text_and_end_with_one():
    s, t = groups(np.array([NO_TEXT, 2, 5, 9, NO_TEXT]), np.array([2, 5, 7, 9]))
    assert s.tolist() == [-1, -1, 0, 1, -1] and t.tolist() == [-1, 0, 1, 1]


def test_a_character_in_several_tokens_is_in_one_group():
    s, t = groups(np.array([NO_TEXT, 1, INSIDE, INSIDE, 2, 4]), np.array([NO_TEXT, 1, 2, 4]))
    assert s.tolist() == [-1, 0, 1, 1, 1, 2] and t.tolist() == [-1, 0, 1, 2]
    s, t = groups(np.array([NO_TEXT, INSIDE, 1]), np.array([NO_TEXT, INSIDE, INSIDE, 1]))
    assert s.tolist() == [-1, 0, 0] and t.tolist() == [-1, 0, 0, 0]


def test_texts_without_a_common_end_have_no_group():
    s, t = groups(np.array([NO_TEXT, 3]), np.array([NO_TEXT, 2]))
    assert s.tolist() == t.tolist() == [-1, -1]
    empty, other = groups(np.array([], np.int64), np.array([NO_TEXT]))
    assert empty.tolist() == [] and other.tolist() == [-1]


def test_a_batch_numbers_its_groups_from_row_to_row_at_the_positions_that_predict_them():
    one = [np.array([NO_TEXT, 1, 2]), np.array([NO_TEXT, 3]), np.array([NO_TEXT, 1, 2, 4])]
    two = [np.array([NO_TEXT, 2]), np.array([NO_TEXT, 2]), np.array([NO_TEXT, 1, 4])]
    found = Alignment.of(one, two, NONE)
    assert found.student.tolist() == [[0, 0, -1, -1], [-1, -1, -1, -1], [1, 2, 2, -1]]
    assert found.teacher.tolist() == [[0, -1, -1], [-1, -1, -1], [1, 2, -1]]
    assert found.count == 3
    assert Alignment.of([], [], NONE).count == 0
