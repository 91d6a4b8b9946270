"""Training rules are named in messages as their options are."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import yaml

from kdlab.module.self_taught import SelfTaughtRule

OPTIONS = sorted((Path(__file__).parents[2] / "conf" / "module").glob("*.yaml"))


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_a_rule_is_named_by_its_option(path):
    module, _, name = yaml.safe_load(path.read_text("utf-8"))["_target_"].rpartition(".")
    assert getattr(import_module(module), name).option() == path.stem


def test_the_rule_without_a_teacher_is_reached_by_distill():
    assert SelfTaughtRule.option() == "distill"
