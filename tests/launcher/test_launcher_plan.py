"""The plan of a sweep is there while its driver works, and names every job as Hydra numbers them."""

import fcntl
import json
from pathlib import Path

import pytest

from kdlab.launcher import plan
from kdlab.report.live import Sight


@pytest.mark.slow
def test_a_sweep_s_plan_is_there_while_it_goes_and_gone_after(kdlab, tiny, monkeypatch):
    seen = []

    def look(*values, **named):
        seen.append([(row.state, row.name) for row in Sight(Path("outputs")).look()])
        raise RuntimeError("no training today")

    monkeypatch.setattr("kdlab.fit.job._train", look)
    words = [*tiny["finetune"], "optimizer.lr=1e-3,1e-4", "freeze=none,head", "group=pilot", "hydra.launcher.jobs=1"]
    with pytest.raises(RuntimeError, match="no training today"):
        kdlab("finetune", "-m", *words)
    names = [f"optimizer.lr={lr}, freeze={freeze}" for lr in ("0.001", "0.0001") for freeze in ("none", "head")]
    assert [[name for state, name in rows if state == "queued"] for rows in seen] == [
        names[1:],
        names[2:],
        names[3:],
        [],
    ]
    assert [[state for state, _ in rows].count("running") for rows in seen] == [1, 1, 1, 1]
    assert not list(Path("outputs/finetune/.sweeps").glob("*.json"))


def test_a_killed_driver_s_plan_is_cleared_away_by_the_next_and_a_living_one_s_is_not(tmp_path):
    old = tmp_path / "finetune/.sweeps/old.json"
    old.parent.mkdir(parents=True)
    old.write_text(json.dumps({"sweep": "old"}))
    other = old.with_name("other.json").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    from hydra import compose, initialize_config_dir

    from kdlab.config import conf

    with initialize_config_dir(str(conf()), version_base="1.3"):
        config = compose("finetune", [f"outputs={tmp_path}"], return_hydra_config=True)
        file = plan.write(config, "new")
    (mine,) = old.parent.glob("new.*.json")  # with a word of its own: two drivers may go through one sweep
    assert sorted(path.name for path in old.parent.iterdir()) == sorted([mine.name, "other.json"])
    assert json.loads(mine.read_text())["count"] == 1
    other.close()
    plan.end(file)
    assert not list(old.parent.iterdir())
