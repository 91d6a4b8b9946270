"""Trained models by the part of their id that `kdlab runs` shows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kdlab.artifact.trained import _import_family, named
from kdlab.error import UserError


@pytest.fixture
def outputs(tmp_path) -> Path:
    names = ["finetune/tweets-s0-d4f03024", "finetune/tweets-s1-06d8928d", "distill/tweets-kd-s0-16d8928d"]
    for name in [*names, "evaluate/tweets-s0-d4f03024-test-99999999"]:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("seed: 0")
        (folder / "done.json").write_text(json.dumps({"state": "finished", "value": 0.5, "metric": "val/accuracy"}))
    return tmp_path


@pytest.mark.parametrize("name", ["d4f03024", "tweets-s0-d4f03024", "s0-d4f03024", "tweets-s0"])
def test_a_part_of_an_id_names_its_run(outputs, name):
    assert named(name, outputs).folder == outputs / "finetune/tweets-s0-d4f03024"


@pytest.mark.parametrize(
    ("name", "said"),
    [("6d8928d", "2 run ids .*tweets-kd-s0-16d8928d, tweets-s1-06d8928d"), ("99999999", "there is no run '99999999'")],
)
def test_a_part_of_several_ids_or_of_none_is_refused(outputs, name, said):
    with pytest.raises(UserError, match=said):
        named(name, outputs)


def test_a_module_that_made_a_model_is_imported_for_its_family_where_it_is_there(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "woven.py").write_text("def model(labels): ...\n")
    _import_family(OmegaConf.create({"_target_": "gone_with_its_folder.model"}))
    _import_family(OmegaConf.create({"_target_": "woven.model"}))
    assert "woven" in sys.modules
