"""Each file that a training step goes through shows how it is used."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

STEP = (
    "batch", "outcome", "output", "module.distill", "model.tap", "model.family.stack", "model.family.find",
    "teacher.base", "task.base", "freeze.base", "block",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("name", STEP)
def test_a_file_of_a_step_has_an_example_that_runs(name):
    found = doctest.testmod(import_module(f"kdlab.{name}"))
    assert found.attempted and not found.failed
