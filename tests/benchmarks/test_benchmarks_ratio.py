"""The arithmetic of the benchmarks: ratios and their spread, interleaving, extrapolation, parity."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.benchmarks.ratio import extrapolated, interleaved, parity, ratios, spread

positive = st.floats(1e-3, 1e3)


@given(st.lists(positive, min_size=1, max_size=9))
def test_spread_is_numpys_median_and_quartiles(values):
    found = spread(values)
    expected = np.quantile(values, [0.5, 0.25, 0.75, 0, 1])
    assert np.allclose([found.median, found.low, found.high, found.least, found.most], expected)
    assert found.repeats == len(values)


def test_nothing_measured_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        spread([])


@given(st.lists(positive, min_size=2, max_size=7), st.floats(0.1, 10))
def test_a_slow_minute_that_hits_both_of_a_pair_does_not_change_their_ratio(ours, factor):
    theirs = [3 * one for one in ours]
    slowed = (
        [one * factor if place == 0 else one for place, one in enumerate(ours)],
        [one * factor if place == 0 else one for place, one in enumerate(theirs)],
    )
    assert ratios(slowed[1], slowed[0]).median == pytest.approx(ratios(theirs, ours).median) == pytest.approx(3)


def test_unpaired_repeats_are_refused():
    with pytest.raises(ValueError, match="paired"):
        ratios([1.0, 2.0], [1.0])


@given(st.integers(1, 6), st.integers(1, 6))
def test_interleaving_gives_each_item_once_a_repeat_and_never_the_same_first_twice_running(count, repeats):
    items = [f"i{number}" for number in range(count)]
    order = list(interleaved(items, repeats))
    assert Counter(order) == {(repeat, item): 1 for repeat in range(repeats) for item in items}
    assert [repeat for repeat, _ in order] == sorted(repeat for repeat, _ in order)
    firsts = [order[repeat * count][1] for repeat in range(repeats)]
    assert count == 1 or all(one != two for one, two in pairwise(firsts))


@given(positive, positive, st.floats(0.05, 1))
def test_extrapolation_is_exact_for_a_fixed_and_a_linear_cost(fixed, whole, share):
    assert extrapolated(fixed + whole * share, fixed + whole * share / 2, share) == pytest.approx(fixed + whole)


def test_noise_never_makes_more_rows_cheaper():
    assert extrapolated(3.0, 3.5, 0.1) == 3.0


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        extrapolated(1, 1, share)


def test_parity_is_welchs_standard_error():
    ours, theirs = [0.81, 0.82, 0.80, 0.83], [0.79, 0.83, 0.82]
    found = parity(ours, theirs)
    welch = stats.ttest_ind(ours, theirs, equal_var=False)
    assert found.difference / found.error == pytest.approx(welch.statistic)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.0, "equal"), (0.05, "ours is better"), (-0.05, "ours is worse"), (0.001, "equal")]
)
def test_parity_says_who_is_better(shift, verdict):
    runs = [0.80, 0.82, 0.81, 0.79]
    assert parity([one + shift for one in runs], runs).verdict == verdict


def test_one_run_says_nothing_about_parity():
    assert parity([0.8], [0.8, 0.9]) is None
    assert math.isclose(parity([0.8, 0.8], [0.8, 0.8]).error, 0)
