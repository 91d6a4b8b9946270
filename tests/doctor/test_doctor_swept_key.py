"""What is called dead changes nothing anywhere, and what changes something is not called dead."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.doctor import swept_key
from kdlab.doctor.dry_run import _course
from kdlab.doctor.swept_key import vary
from kdlab.schedule.plateau import Plateau

KEYS = ("a", "b", "c")


def words(sizes: list[int]) -> dict[str, list[str]]:
    return {key: [f"{key}={value}" for value in range(size)] for key, size in zip(KEYS, sizes, strict=True)}


@given(st.lists(st.integers(2, 3), min_size=3, max_size=3), st.data(), st.sampled_from([0.0, 60.0]))
def test_dead_is_what_no_point_depends_on(sizes, data, seconds):
    """Against the definition, on any table of what the points do."""
    swept = words(sizes)
    points = list(itertools.product(*swept.values()))
    table = {point: data.draw(st.sampled_from("xy")) for point in points}

    def trace(point):
        return {"the loss": table[tuple(point[key] for key in KEYS)], "a gradient": "always this"}

    for place, key in enumerate(vary(swept, trace, seconds)):
        groups: dict[tuple, set[str]] = {}
        for point in points:
            groups.setdefault(point[:place] + point[place + 1 :], set()).add(table[point])
        alive = any(len(group) > 1 for group in groups.values())
        assert key.dead is not alive
        assert key.changes == (["the loss"] if alive else [])
        if seconds:
            assert len(key.silent) == sum(len(group) == 1 for group in groups.values())
            assert key.tried == len(groups)


def test_values_that_are_equal_where_others_are_not_are_named():
    def trace(point):
        return {"the loss": str(min(int(point["a"][2:]), 1))}

    (key,) = vary({"a": ["a=0", "a=1", "a=2"]}, trace, 60)
    assert not key.dead
    assert key.equal == [["a=1", "a=2"]]


def test_in_a_hurry_no_more_values_are_tried_than_show_that_a_key_does_something():
    tried = []

    def trace(point):
        tried.append(point["a"])
        return {"the loss": "same" if point["a"] in ("a=0", "a=1") else point["a"]}

    (key,) = vary({"a": [f"a={value}" for value in range(9)]}, trace, -1)
    assert tried == ["a=0", "a=1", "a=2"]
    assert key.changes == ["the loss"]


def test_of_very_many_values_of_one_structure_no_more_are_tried_than_there_is_time_for(monkeypatch):
    clock = itertools.count()  # a second for each look at it
    monkeypatch.setattr(swept_key.time, "monotonic", lambda: next(clock))
    tried = []

    def trace(point):
        tried.append(point)
        return {"the loss": str(point)}

    swept = {"a": [f"a={value}" for value in range(1000)], "b": ["b=x", "b=y", "b=z"]}
    keys = vary(swept, trace, 10, alike=lambda point: tuple(word for word in point.values() if word[:2] == "b="))
    assert [key.changes for key in keys] == [["the loss"], ["the loss"]]
    assert len(tried) < 30


def test_a_point_that_cannot_run_is_no_evidence():
    (key,) = vary({"a": ["a=0", "a=1"]}, lambda point: None if point["a"] == "a=1" else {"the loss": "1"}, 60)
    assert not key.dead
    assert key.tried == 0


@pytest.mark.parametrize(
    "change",
    [
        {"start": 0.8}, {"factor": 0.4}, {"least": 0.1}, {"patience": 2}, {"monitor": "val/loss"},
        {"min_delta": 0.01},
    ],
    ids=str,
)  # fmt: skip
def test_what_a_schedule_makes_of_validations_is_seen_without_one(change):
    plain = {"start": 0.9, "patience": 3}
    assert _course(Plateau(**plain), {}) != _course(Plateau(**(plain | change)), {})
    assert _course(Plateau(**plain, most=0.95), {}) == _course(Plateau(**plain), {}), (
        "a fall does not look at what is above it"
    )
