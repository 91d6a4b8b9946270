"""Runs of several stages: each is a run of its own, done once, and starts from the student of the one before."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from bits import same
from fork import end, start
from omegaconf import OmegaConf
from safetensors.torch import load_file

from kdlab.config.stored import read_config

STEP = "kdlab.module.distill.Distill.training_step"
HINT = ["loss=hint", "loss.alpha=1", "loss.terms.kl.weight=0", "callback.checkpoint.monitor=null"]
THREE = f"stages.earlier={[HINT, ['loss=hint', 'trainer.max_epochs=1']]}"


def runs(folder: Path | str = ".") -> list[Path]:
    return sorted(path.parent for path in Path(folder, "outputs/distill").glob("*/done.json"))


def chain(final: Path) -> list[Path]:
    """The stages of a run, the first one first."""
    found = [final]
    while (told := found[0] / "start.json").exists():
        found.insert(0, final.parent / json.loads(told.read_text())["id"])
    return found


def words(tiny, *more: str) -> list[str]:
    return [*tiny["distill"], "logger=none", "callback.checkpoint.every_n_steps=3", *more]


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory) -> Path:
    """Where a run of three stages ended."""
    folder = tmp_path_factory.mktemp("whole")
    code, said = end(start(["distill", *words(tiny, THREE)], folder), folder)
    assert code == 0, said
    return folder


@pytest.mark.slow
def test_each_stage_starts_from_the_student_of_the_one_before(undisturbed):
    (final,) = [run for run in runs(undisturbed) if read_config(run).stages.earlier]
    stages = chain(final)
    assert len(stages) == 3 == len(runs(undisturbed))
    for before, after in pairwise(stages):
        assert json.loads((after / "start.json").read_text())["id"] == before.name
    first, second, last = map(read_config, stages)
    assert second.start == stages[0].name and first.start is None and last.start is None
    assert (first.choice.loss, first.loss.alpha, list(first.loss.terms)) == ("hint", 1, ["kl", "hint"])
    assert (second.trainer.max_epochs, last.trainer.max_epochs, last.choice.loss) == (1, 2, "kd")
    assert "stage1" in stages[0].name and "stage2" in stages[1].name, "the number of the stage"
    ends = [load_file(run / "model/model.safetensors") for run in stages]
    assert all(not torch.equal(one["classifier.weight"], two["classifier.weight"]) for one, two in pairwise(ends))


@pytest.mark.sampled(0, tried=1)
@pytest.mark.parametrize(
    "moments",
    [
        [(STEP, 5)],
        [(STEP, 18), (STEP, 6)],
        pytest.param([("kdlab.artifact.run.Run.finish", 2), (STEP, 4)], marks=pytest.mark.slow),
    ],
    ids=["in the first stage", "in the second and in the third", "just before the first is done, and in the second"],
)
def test_killed_in_and_between_stages_it_ends_with_the_same_weights(tmp_path, tiny, undisturbed, moments):
    for name, call in moments:
        code, said = end(start(["distill", *words(tiny, THREE)], tmp_path, kill=name, call=call), tmp_path)
        assert code == -9, said
    before = {run.name: (run / "done.json").stat().st_mtime_ns for run in runs(tmp_path)}
    code, said = end(start(["distill", *words(tiny, THREE)], tmp_path), tmp_path)
    assert code == 0, said
    same(undisturbed, tmp_path)
    after = {run.name: (run / "done.json").stat().st_mtime_ns for run in runs(tmp_path)}
    assert all(after[name] == stamp for name, stamp in before.items()), "a finished stage is not done again"


@pytest.mark.slow
def test_a_sweep_shares_its_stages_and_a_second_call_does_nothing(kdlab, tiny):
    command = words(tiny, "stages=none,fitnet,tinybert", "loss.temperature=1,4", "trainer.max_epochs=1")
    code, out, err = kdlab("distill", "-m", *command)
    assert code == 0, out + err
    assert len(runs()) == 6 + 2, "the first stages look at no temperature"
    configs = {run: OmegaConf.load(run / "config.yaml") for run in runs()}
    names = sorted(config.choice.stages for config in configs.values())
    assert names == ["fitnet", "fitnet", "fitnet1", "none", "none", "tinybert", "tinybert", "tinybert1"]
    first = next(run for run, config in configs.items() if config.choice.stages == "tinybert1")
    assert list(json.loads((first / "metrics.json").read_text())) and "tinybert1" in first.name
    code, out, err = kdlab("distill", *words(tiny, "stages=fitnet", "trainer.max_epochs=1", "loss.temperature=1"))
    assert code == 0 and "already finished" in out and len(runs()) == 8


@pytest.mark.slow
def test_any_run_can_be_started_from(kdlab, tiny):
    assert kdlab("distill", *words(tiny, "trainer.max_epochs=1"))[0] == 0
    (first,) = runs()
    code, out, err = kdlab("distill", *words(tiny, f"start={first.name}", "optimizer.lr=1e-30", "scheduler=constant"))
    assert code == 0, out + err
    (second,) = set(runs()) - {first}
    one, two = (load_file(run / "model/model.safetensors") for run in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one), "and nothing was learned since"
    code, _, err = kdlab("distill", *words(tiny, f"start={first.name}", "student.hidden_size=24"))
    assert code == 2 and "is another model than the student" in err
    assert err.count("error: ") == 1 and "Traceback" not in err


@pytest.mark.sampled(1, tried=3)
@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("[['loss=hnit']]", "stages.earlier.0: "),
        ("[['loss.alhpa=1']]", "stages.earlier.0: "),
        ("[['experiment=movie_reviews']]", "chooses nothing that a stage could have"),
        ("[['loss.alpha=7']]", "loss.alpha is 7"),
    ],
)
def test_a_stage_that_cannot_be_is_told_before_anything_is_trained(kdlab, tiny, listed, said):
    code, _, err = kdlab("distill", "-m", *words(tiny, f"stages.earlier={listed}", "seed=0,1"))
    assert code == 2 and said in err and not runs(), err


@pytest.mark.slow
def test_the_doctor_sees_what_stages_and_other_dynamic_options_change(kdlab, tiny):
    code, out, err = kdlab("doctor", "distill", "-m", *words(tiny, "stages=none,fitnet", "loss/balance=none,dwa"))
    assert code == 0, out + err
    assert "is a stage that comes first" in kdlab("doctor", "distill", *words(tiny, "stages=fitnet"))[1].replace(
        "\n", " "
    )
    code, out, err = kdlab("doctor", "distill", "-m", *words(tiny, "loss=ce", "loss/balance=none,uncertainty"))
    assert code == 2 and "loss/balance does nothing" in err
