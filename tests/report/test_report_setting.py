"""What differs between runs, and what does not count as a difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlab.report.read import Record
from kdlab.report.setting import differing


def record(**config) -> Record:
    return Record(id="x", folder=Path("x"), command="distill", state="finished", config=config)


@pytest.mark.parametrize(
    "key", ["seed", "module.seed", "datamodule.seed", "choice.cluster", "choice.logger", "outputs"]
)
def test_what_follows_the_seed_or_only_says_where_is_no_difference(key):
    top, _, last = key.partition(".")
    runs = [record(**{top: {last: value} if last else value, "loss": {"alpha": 0.5}}) for value in (1, 2)]
    assert differing(runs) == []


def test_the_seed_of_the_splits_is_a_difference():
    assert differing([record(datamodule={"split_seed": value}) for value in (1, 2)]) == ["datamodule.split_seed"]
