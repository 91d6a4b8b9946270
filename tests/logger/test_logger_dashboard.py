"""`kdlab dashboard`: the workspace compares what the runs differ in, is the same each time, and a push replaces it.

The server is a protocol stub on loopback, not W&B's own; what W&B draws was not seen.
"""

import json
import random
import sys
from pathlib import Path

import pytest
from stub import Server

sys.path.append(str(Path(__file__).parents[1] / "report"))
from synthetic_run import write_sweep

pytest.importorskip("wandb_workspaces")
KEY = "local" + "5ec7e7" * 6 + "0000"


@pytest.fixture
def sweep(tmp_path):
    write_sweep(tmp_path / "outputs")
    return tmp_path / "outputs"


def panels(view: dict) -> dict[str, list[dict]]:
    """Section -> panels."""
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in sections}


def test_it_shows_what_the_sweep_varied(kdlab, sweep):
    code, out, err = kdlab("dashboard", "select=kd_sweep")
    assert code == 0, err
    view = json.loads(out)
    assert (view["project"], view["display_name"]) == ("kdlab", "Sweep kd_sweep")
    found = panels(view)
    kinds = {name: [panel["viewType"] for panel in some] for name, some in found.items()}
    assert kinds["Sweep"][0] == "Parallel Coordinates Plot"
    assert kinds["Sweep"].count("Scatter Plot") == 3
    assert kinds["Quality against cost"][0] == "Scatter Plot"
    assert set(kinds["Curves"]) == {"Run History Line Plot"}
    assert kinds["What differs"] == ["Run Comparer"]
    axes = json.dumps(found["Sweep"][0])
    for key in ("loss.temperature", "loss.alpha", "choice.value.freeze", "test/accuracy"):
        assert key in axes, key
    heat = json.dumps(found["Sweep"][1])
    assert "loss.temperature" in heat
    assert "loss.alpha" in heat
    quality = json.dumps(found["Quality against cost"][0])
    assert "model/parameters" in quality
    assert "test/accuracy" in quality
    curves = json.dumps(found["Curves"])
    assert "val/accuracy" in curves
    assert "train/loss" in curves
    assert "kd_sweep" in json.dumps(view["spec"]["section"]["runSets"][0]["filters"])


def test_less_is_better_of_some_metrics(kdlab, sweep):
    more, less = (json.loads(kdlab("dashboard", f"by={name}")[1]) for name in ("test/accuracy", "test/ece"))
    (best,), (least,) = ([panels(view)["Quality against cost"][0]["config"]] for view in (more, less))
    assert (best.get("showMaxYAxisLine"), best.get("showMinYAxisLine")) == (True, False)
    assert (least.get("showMaxYAxisLine"), least.get("showMinYAxisLine")) == (False, True)
    orders = [view["spec"]["section"]["runSets"][0]["sort"]["keys"][0]["ascending"] for view in (more, less)]
    assert orders == [False, True]


def test_the_same_runs_give_the_same_workspace(kdlab, sweep):
    first = kdlab("dashboard")[1]
    random.seed(1)
    assert kdlab("dashboard")[1] == first
    assert json.loads(kdlab("dashboard", "title=Mine")[1])["name"] != json.loads(first)["name"]


@pytest.mark.slow
def test_a_push_stores_it_and_a_second_one_replaces_it(kdlab, sweep, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with Server(key=KEY) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        code, out, err = kdlab("dashboard", "push=true", "title=Mine")
        assert code == 0, err
        assert out == f"made the workspace 'Mine' of stub/kdlab at {server.url}\n"
        assert kdlab("dashboard", "push=true", "title=Mine")[1].startswith("replaced")
        (stored,) = server.views.values()
        printed = json.loads(kdlab("dashboard", "title=Mine", "entity=stub")[1])
        assert json.loads(stored["spec"]) == printed["spec"]
        assert (stored["entityName"], stored["type"], stored["name"]) == ("stub", "project-view", printed["name"])
        assert server.unknown == []
        server.key = "another"
        code, _, err = kdlab("dashboard", "push=true")
        assert (code, "refuses the key" in err, KEY in err) == (2, True, False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["by=test/bleu"], "none of the"),
        (["cost=perf/price"], "cost=perf/price"),
        (["select=nothing"], "fits none"),
        (["push=true"], "WANDB_API_KEY"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(kdlab, sweep, words, says):
    code, _, err = kdlab("dashboard", *words)
    assert code == 2
    assert says in err


def test_without_the_extra_it_says_what_to_install(kdlab, sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    code, _, err = kdlab("dashboard")
    assert code == 2
    assert "pip install 'kdlab[dashboard]'" in err
