"""What tests are given as composed is what Hydra composes."""

from __future__ import annotations

import composed
import pytest
from hydra import compose
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from omegaconf import OmegaConf

from kdlab.config import conf
from kdlab.config.option import composing

LINES = [
    ["distill", "loss.temperature=3", "seed=4"],
    ["distill", "loss=hint", "model@student=mlp", "student.width=64", "~trainer.gradient_clip_val"],
    ["distill", "experiment=movie_reviews", "+schedule@loss.alpha=linear", "loss.alpha.end=0.4"],
    ["distill", "callback=[default,early_stopping]", "+loss/term@loss.terms.more=distance", "logger=csv"],
    ["finetune", "peft=lora", "peft.rank=2", "hydra.job.name=mine"],
]


def text(name: str, *words: str) -> str:
    return OmegaConf.to_yaml(compose(name, list(words), return_hydra_config=True))


@pytest.mark.sampled(2, tried="all")
@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_it_is_hydras_own(line, monkeypatch):
    monkeypatch.setattr(defaults_list, "_create_defaults_list", composed.choose)
    monkeypatch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", composed.merge)
    with composing(conf()):
        theirs = text(*line)
        with composed.once() as kept:
            assert text(*line) == theirs
            count = len(kept)
            assert text(*line) == theirs
            assert text(*line, "seed=7") == text(*line, "seed=7") != theirs
            assert len(kept) == count == 2


def test_a_config_that_is_changed_changes_nothing_that_is_kept():
    with composing(conf()), composed.once():
        cfg = compose("distill")
        cfg.loss.alpha = 0.123
        cfg.loss.terms = {}
        assert compose("distill").loss.alpha != 0.123 and compose("distill").loss.terms


def test_a_file_that_changes_is_read_again(tmp_path):
    (tmp_path / "loss").mkdir()
    with composing(conf(), tmp_path), composed.once():
        for value in (2.0, 3.25):
            (tmp_path / "loss/mine.yaml").write_text(f"defaults:\n  - kd\n  - _self_\ntemperature: {value}\n")
            assert compose("distill", ["loss=mine"]).loss.temperature == value
        (tmp_path / "loss/mine.yaml").unlink()
        with pytest.raises(HydraException):
            compose("distill", ["loss=mine"])


def test_a_mistake_is_one_each_time():
    with composing(conf()), composed.once():
        for _ in range(2):
            with pytest.raises(HydraException, match="losss"):
                compose("distill", ["losss=kd"])
            with pytest.raises(HydraException, match="nosuch"):
                compose("distill", ["loss=nosuch"])


def test_of_many_only_the_last_are_kept():
    with composing(conf()), composed.once() as kept:
        for number in range(composed.MOST):
            kept[number] = None
        compose("distill")
        assert len(kept) == composed.MOST and 0 not in kept
