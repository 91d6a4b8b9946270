"""`sweep=optuna`: it searches what a multirun lists, goes on where it was, and gives up what falls behind."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from kdlab.callback.prune import pruner
from kdlab.error import UserError
from kdlab.launcher.search import PRUNERS, best, distribution


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a=1,2", CategoricalDistribution(["1", "2"])),
        ("a=none,head", CategoricalDistribution(["none", "head"])),
        ("a=range(1,4)", CategoricalDistribution([1, 2, 3])),
        ("a=interval(1,8)", FloatDistribution(1.0, 8.0)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=tag(log,interval(1e-5,1e-2))", FloatDistribution(1e-5, 1e-2, log=True)),
    ],
)
def test_hydras_grammar_is_the_space(word, expected):
    (override,) = OverridesParser.create().parse_overrides([word])
    assert distribution(override) == expected


@pytest.mark.parametrize("word", ["a=interval(8,1)", "a=tag(log,interval(0,1))"])
def test_an_empty_range_is_refused(word):
    (override,) = OverridesParser.create().parse_overrides([word])
    with pytest.raises(UserError, match="a=interval"):
        distribution(override)


def test_every_pruner_is_made():
    for name in PRUNERS:
        assert isinstance(pruner(name), optuna.pruners.BasePruner)


def test_the_front_names_what_no_other_trial_beats():
    study = optuna.create_study(directions=["maximize", "minimize"])
    for values in ((0.9, 5.0), (0.8, 2.0), (0.7, 3.0)):
        study.tell(study.ask({"a": FloatDistribution(0, 1)}), values)
    said = best(study, ["accuracy", "latency"])
    assert "trial 0: accuracy 0.9, latency 5" in said
    assert "trial 1" in said
    assert "trial 2" not in said


def search(tiny, *more: str) -> list[str]:
    words = ["sweep=optuna", *tiny["finetune"], "logger=none", "optimizer.lr=tag(log,interval(1e-5,1e-1))"]
    return ["finetune", "-m", *words, *more]


def done() -> int:
    return len(list(Path("outputs/finetune").glob("*/done.json")))


@pytest.mark.sampled(1, tried=4)
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["hydra.sweeper.sampler=bayes"], "hydra.sweeper.sampler=bayes is unknown: choose one of tpe"),
        (["hydra.sweeper.pruner=cut"], "hydra.sweeper.pruner=cut is unknown"),
        (["hydra.sweeper.n_jobs=0"], "must be 1 or more"),
        (["hydra.sweeper.objectives=[less test/loss]"], "must be such as [best/val/loss]"),
        (
            ["hydra.sweeper.objectives=[minimize best/val/accuracy]"],
            "but more of it is better; write best/val/accuracy",
        ),
        (
            ["hydra.sweeper.objectives=[best/val/loss]"],
            "no trial will have best/val/loss in its metrics.json; choose one of best/val/accuracy",
        ),
        (["hydra.sweeper.objectives=[test/applause]"], "choose one of test/accuracy, test/ece, test/f1_macro"),
        (["hydra.sweeper.objectives=[perf/applause]"], "perf/applause does not declare whether more is better"),
        (["hydra.sweeper.objectives=[test/accuracy]", "hydra.sweeper.pruner=asha"], "looks at validations"),
        (
            ["hydra.sweeper.pruner=asha", "hydra.sweeper.objectives=[test/loss,test/accuracy]"],
            "needs one objective",
        ),
    ],
)
def test_what_cannot_be_is_told_before_a_trial(kdlab, tiny, more, told):
    code, _, err = kdlab(*search(tiny, *more))
    assert code == 2
    assert told in err
    assert not done()


@pytest.mark.slow
def test_a_search_goes_on_where_it_was(kdlab, tiny):
    objectives = "hydra.sweeper.objectives=[best/val/accuracy, perf/latency_ms]"
    words = search(tiny, "trainer.max_epochs=1", objectives)
    code, out, err = kdlab(*words, "hydra.sweeper.n_trials=2")
    assert code == 0, err
    assert "2 trials: 2 complete" in out
    first = done()
    study = optuna.load_study(study_name=None, storage="sqlite:///outputs/finetune/optuna.db")  # the only one
    study.ask({"optimizer.lr": FloatDistribution(1e-5, 1e-1, log=True)})  # and there its driver died
    code, out, err = kdlab(*words, "hydra.sweeper.n_trials=3")
    assert code == 0, err
    assert "3 complete" in out
    assert done() == first + 1
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]
    assert study.trials[2].params == study.trials[3].params
    code, out, err = kdlab(*words, "hydra.sweeper.n_trials=3")
    assert done() == first + 1


@pytest.mark.slow
def test_a_trial_that_falls_behind_is_given_up_and_one_that_fails_is_named(kdlab, tiny):
    """Rates that do nothing, then a rate that learns nothing either: ASHA keeps the better half of each rung."""
    words = ["finetune", "-m", "sweep=optuna", *tiny["finetune"], "logger=none", "trainer.max_epochs=4"]
    words += ["optimizer.lr=0.02,0.00000001", "hydra.sweeper.pruner=asha", "hydra.sweeper.sampler=random"]
    code, out, err = kdlab(*words, "seed=0,1,2", "hydra.sweeper.n_trials=8")
    assert code == 0, err
    assert "pruned" in out
    given_up = [json.loads(path.read_text()) for path in Path("outputs/finetune").glob("*/failed.json")]
    assert given_up
    assert {one["type"] for one in given_up} == {"Pruned"}
    code, out, err = kdlab(*search(tiny, "model.heads=3", "hydra.sweeper.n_trials=2"))
    assert code == 1
    assert "2 of 2 trials failed, the first because of" in err
    assert "heads" in err
