"""From nodes to objects: what is missing is named by the key that a user would type."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from kdlab.command import build
from kdlab.error import UserError

CFG = {"student": {"_target_": "builtins.dict", "path": "???", "layers": None}}


def test_a_missing_value_is_named_by_its_key():
    with pytest.raises(UserError, match=r"^student\.path has no value; .*: student\.path=VALUE$"):
        build.make(OmegaConf.create(CFG).student)


def test_what_is_given_is_not_missing():
    assert build.make(OmegaConf.create(CFG).student, path="x") == {"path": "x", "layers": None}
