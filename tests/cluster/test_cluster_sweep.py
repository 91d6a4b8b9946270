"""A sweep on a real SLURM cluster: each run once, its results kept, nothing done twice."""

from __future__ import annotations

import json
import time

import pytest

pytestmark = pytest.mark.cluster
TWELVE = ["loss.temperature=1,2,4", "loss.alpha=0.1,0.5", "freeze=none,head"]


@pytest.mark.fault(name="none: 12 runs that ask for one teacher at once", runs=12, injected=0)
def test_twelve_runs_on_two_nodes_and_the_same_command_again(sweep, record_property):
    words = [*TWELVE, "logger=wandb"]
    begin = time.monotonic()
    code, said = sweep.run(*words)
    record_property("seconds", time.monotonic() - begin)
    assert code == 0, said
    assert "12 runs: 0 finished before, 0 joined, 12 submitted" in said
    assert "12 runs: 12 finished" in said
    assert len(sweep.done) == len(sweep.runs) == 12
    sweep.settle()
    jobs = sweep.sacct()
    assert [state for _, state, _ in jobs] == ["COMPLETED"] * 12
    assert {node for _, _, node in jobs} == {"n1", "n2"}
    outputs = sweep.folder / "outputs"
    (teacher,) = outputs.glob("finetune/*/done.json")
    of = sorted(json.loads(path.read_text())["of"] for path in outputs.glob("store/*/meta.json"))
    assert len(of) == 2 and teacher.parent.name in of, (
        "asked once; the other is of the layers that freeze=head never runs"
    )
    assert not list(outputs.glob("store/.*.part"))
    fragments = [path.name.rsplit("-", 5)[0] for path in outputs.glob("wandb/offline-run-*")]
    assert len(fragments) == 13, "every run and the teacher began once"
    sweeps = [json.loads((run / "sweep.json").read_text()) for run in sweep.done]
    assert len({(one["sweep"], one["group"]) for one in sweeps}) == 1
    assert sorted(one["job"] for one in sweeps) == list(range(12))

    begin = time.monotonic()
    code, said = sweep.run(*words)
    record_property("seconds_again", time.monotonic() - begin)
    assert code == 0, said
    assert "12 runs: 12 finished before, 0 joined, 0 submitted" in said
    assert "12 runs: 12 finished" in said
    assert len(sweep.sacct()) == 12
