"""A sweep over a jump of a loss is named; one that does not go there, or whose values compare, is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from kdlab.config import conf
from kdlab.config.point import Grid
from kdlab.plan.jumps import jumps


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield


def notes(*words: str) -> list[str]:
    loader: Any = GlobalHydra.instance().config_loader()
    return jumps(
        Grid(
            "distill", list(words), loader.load_configuration("distill", list(words), RunMode.MULTIRUN), loader
        ).points()
    )


@pytest.mark.parametrize(
    ("values", "where"), [("0,0.01,0.5", "jumps at 0:"), ("0.5,1", "jumps at 1:"), ("0,1", "0 and 1")]
)
def test_values_over_a_jump_are_named(values, where):
    (note,) = notes("loss=jsd", f"loss.beta={values}")
    assert f"loss.terms.jsd.beta takes {values.replace(',', ', ')}" in note and where in note
    assert "loss.terms.jsd.normalise=true" in note


@pytest.mark.parametrize(
    "words",
    [
        ["loss=jsd", "loss.beta=0.1,0.5,0.9"],
        ["loss=jsd", "loss.beta=0", "seed=0,1"],
        ["loss=jsd", "loss.beta=0,0.5,1", "loss.terms.jsd.normalise=true"],
        ["loss=kd,ce"],
    ],
    ids=" ".join,
)
def test_others_are_not(words):
    assert notes(*words) == []
