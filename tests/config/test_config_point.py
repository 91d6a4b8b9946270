"""A point of a sweep is composed as Hydra composes it, whatever words it is made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from kdlab.config import conf
from kdlab.config.job import composed
from kdlab.config.point import Grid, folders


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(conf()), version_base="1.3"):
        yield


def grid(*words: str, verb: str = "distill") -> Grid:
    loader: Any = GlobalHydra.instance().config_loader()
    return Grid(verb, list(words), loader.load_configuration(verb, list(words), RunMode.MULTIRUN), loader)


@pytest.mark.sampled(1, tried=4)
@pytest.mark.parametrize(
    "words",
    [
        ["experiment=movie_reviews", "loss.temperature=1,4", "seed=0,1"],
        ["loss=kd,hint", "+loss/term@loss.terms.more=distance", "loss.terms.more.weight=0.5,2"],
        ["+schedule@loss.alpha=linear,cosine", "loss.alpha.end=0.5,0.8"],
        ["model@student=mlp,linear", "student.width=64,32", "~trainer.gradient_clip_val"],
        ["optimizer=sgd", "+optimizer.dampening=0.1", "++optimizer.lr=choice(0.1,0.2)", "task/head=mlp"],
        ["student.layers=[0,1],[1]", "model@student=minilm_l6", "trainer.max_epochs=range(1,3)"],
        ["cluster=local", "logger=csv", "callback=[default,early_stopping]", "debug=one_batch,overfit"],
    ],
    ids=" ".join,
)
def test_it_is_the_config_and_the_run_that_hydra_composes(words):
    points = grid(*words).points()
    assert len(points) > 1 or not any("," in word for word in words)
    for point in points:
        assert point.job is not None, point.problem
        theirs = compose("distill", point.words)
        assert OmegaConf.to_container(point.job.cfg, resolve=True) == OmegaConf.to_container(theirs, resolve=True)
        assert list(point.job.cfg) == list(theirs)
        job = composed("distill", point.words)
        assert (point.job.folder, point.job.choices) == (job.folder, job.choices)
    assert len({tuple(point.words) for point in points}) == len(points)


def test_the_points_are_in_hydras_order():
    names = [point.name for point in grid("seed=0,1", "loss.alpha=0.1,0.2").points()]
    assert names == [f"seed={seed}, loss.alpha={alpha}" for seed in (0, 1) for alpha in (0.1, 0.2)]


def test_a_point_that_does_not_compose_says_why_and_the_others_are_there():
    good, bad = grid("loss.alpha=0.5", "trainer.devices=1", "optimizer=adamw,adamm").points()
    assert good.job
    assert "adamm" in bad.problem


def test_of_an_interval_both_ends_are_looked_at():
    values = grid("loss.alpha=interval(0.1,0.9)").values
    assert values == {"loss.alpha": ["loss.alpha=0.1", "loss.alpha=0.9"]}


@pytest.mark.slow
def test_of_a_large_grid_each_value_is_looked_at_once():
    large = grid("seed=range(0,20)", "loss.temperature=range(1,20)")
    assert large.jobs == 20 * 19
    few = large.points(most=50)
    assert len(few) == 1 + 19 + 18
    assert {point.swept["seed"] for point in few} == {f"seed={seed}" for seed in range(20)}


@pytest.mark.slow
def test_of_very_many_numbers_the_ends_and_some_between_are_looked_at():
    large = grid("loss.temperature=range(2,500)", "loss.alpha=0.5,1,0.2,-3", "freeze=none,head")
    few = large.points(most=50)
    temperatures = [int(point.swept["loss.temperature"].partition("=")[2]) for point in few]
    assert {2, 499} <= set(temperatures)
    assert 20 < len(set(temperatures)) <= 26
    assert max(after - before for before, after in itertools.pairwise(sorted(set(temperatures)))) < 30
    assert {point.swept["loss.alpha"] for point in few} == {
        f"loss.alpha={value}" for value in ("0.5", "1", "0.2", "-3")
    }
    assert {point.swept["freeze"] for point in few} == {"freeze=none", "freeze=head"}


@pytest.mark.slow
def test_no_word_that_is_no_number_is_left_out():
    large = grid("student.hidden_size=range(1,60)", "task.head=null," + ",".join(f"head{place}" for place in range(50)))
    assert len(large.points(most=0)) == 1 + 58 + 50


def test_points_with_one_directory_are_one_run():
    found = folders(grid("loss.temperature=2,2.0,3", "group=a,b").points())
    assert sorted(len(same) for same in found.values()) == [2, 4]
