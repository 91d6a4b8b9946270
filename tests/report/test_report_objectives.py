"""The measured table in the guide is generated from the file of runs, and the file holds every recipe of the sweep."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scipy import stats

from kdlab.report.objectives import END, START, every, families, table, written

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
RUNS = ROOT / "notebooks/objectives.csv"
HEAD = "choice.loss,datamodule.unlabelled,seed,test/accuracy,test/fidelity/agreement\n"


def test_the_guide_holds_the_table(request):
    page = ROOT / "kdlab/guide/results.md"
    wanted = written(page.read_text("utf-8"), RUNS.read_text("utf-8"), CONF)
    if request.config.getoption("--docs-write"):
        page.write_text(wanted, "utf-8")
    assert page.read_text("utf-8") == wanted, "notebooks/objectives.csv changed: make docs writes the table anew"


def test_every_recipe_of_the_command_was_run_with_every_seed():
    text = (CONF / "experiment/movie_reviews_objectives.yaml").read_text("utf-8")
    commands = re.findall(r"^# kdlab .* loss=(\S+) .*seed=(\S+)$", text, re.MULTILINE)
    assert len(commands) == 2, "all recipes, and the one that needs a student of its own"
    wanted = {
        (recipe, seed) for recipes, seeds in commands for recipe in recipes.split(",") for seed in seeds.split(",")
    }
    assert wanted == set(every(RUNS.read_text("utf-8")))


def test_a_row_is_a_mean_and_students_interval():
    values = [0.70, 0.74, 0.75]
    runs = HEAD + "".join(f"hint,keep,{seed},{value},0.8\n" for seed, value in enumerate(values))
    low, high = stats.t.interval(0.95, 2, sum(values) / 3, stats.sem(values))
    assert table(runs, CONF).splitlines()[3] == f"| `hint` | 3 | 73.0% | {100 * low:.1f} to {100 * high:.1f} | 80.0% |"


def test_rows_are_by_family_and_name_and_never_by_score():
    runs = HEAD + "rkd,keep,0,0.9,0.8\nmse,keep,0,0.1,0.8\nce,drop,0,0.5,\n"
    runs += "kd,keep,0,0.6,0.8\nce,keep,0,0.4,\nat,keep,0,0.7,0.8\n"
    lines = [line.split(" | ")[0].strip("| *`") for line in table(runs, CONF).splitlines()[2:]]
    assert lines == [
        "labels", "ce` `datamodule.unlabelled=drop", "ce", "logit", "kd", "mse", "feature", "at", "relation", "rkd",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="twice"):
        table(runs + "kd,keep,0,0.6,0.8\n", CONF)


def test_recipes_have_the_family_of_what_they_add_to_kd():
    of = families(CONF)
    wanted = {
        "ce": "labels",
        "kd": "logit",
        "tf_kd": "logit",
        "hint": "feature",
        "tinybert": "feature",
        "rkd": "relation",
    }
    assert {name: of[name] for name in wanted} == wanted
    assert set(of.values()) == {"labels", "logit", "feature", "relation"}


def test_a_lost_marker_is_told():
    for lost in (START, END):
        with pytest.raises(ValueError, match="marker"):
            written(f"{START}\n{END}".replace(lost, ""), HEAD, CONF)
