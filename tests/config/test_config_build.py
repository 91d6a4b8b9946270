"""From nodes to objects: what is missing is named by the key that a user would type."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from small import small
from torch import nn

from kdlab.config import build, conf, instantiate
from kdlab.datamodule.processor.text import Text
from kdlab.error import UserError

CFG = {"student": {"_target_": "builtins.dict", "path": "???", "layers": None}}


def test_a_missing_value_is_named_by_its_key():
    with pytest.raises(UserError, match=r"^student\.path has no value; .*: student\.path=VALUE$"):
        instantiate.make(OmegaConf.create(CFG).student)


def test_what_is_given_is_not_missing():
    assert instantiate.make(OmegaConf.create(CFG).student, path="x") == {"path": "x", "layers": None}


def test_what_was_read_ahead_is_taken_once_and_by_the_same_config(reviews):
    with initialize_config_dir(str(conf()), version_base="1.3"):
        words = ["datamodule=table", f"datamodule.path={reviews}", "datamodule.tokenizer=train:wordpiece:200"]
        same, other = (small("distill", [*words, f"datamodule.per_class={kept}"]).cfg for kept in (5, 6))
    build.read_ahead(same)
    fresh = build.data(other)
    assert fresh.label_counts == [6, 6]
    first, second = build.data(same), build.data(same)
    assert first.label_counts == second.label_counts == [5, 5]
    assert first is not second, "a job changes its data: who comes second reads anew"
    assert (first.encoded.codes == second.encoded.codes).all()


def test_texts_that_are_longer_than_the_table_of_positions_are_refused():
    model = nn.Module()
    model.position_embeddings = nn.Embedding(16, 4)
    processor = Text(SimpleNamespace(eos_token_id=None, sep_token_id=None, pad_token_id=None), max_length=64)
    processor.check(model, np.array([5, 16]))
    with pytest.raises(
        UserError, match=r"a text of 17 tokens, but Module has 16 positions: set datamodule.max_length=16"
    ):
        processor.check(model, np.array([5, 17]))
