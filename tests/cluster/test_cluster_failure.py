"""Runs that fail by themselves: the others end, and the table names each with its reason and its log."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.cluster


@pytest.mark.fault(name="bad config, NaN and out of memory beside a good run", runs=6, injected=5)
def test_a_bad_config_a_nan_and_too_little_memory(sweep):
    """16 wide is right, 15 does not divide by two heads, 100,000 wide is 40 GB a matrix; a rate of 1e30 breaks it."""
    words = ["student.hidden_size=16,15,100000", "optimizer.lr=0.001,1e30", "trainer.gradient_clip_val=null"]
    words += ["optimizer=sgd", "callback.finite.every_n_steps=1"]
    code, said = sweep.run(*words)
    assert code == 1
    assert "6 runs: 1 finished, 5 failed" in said
    assert "Traceback" not in said
    flat = "".join(said.replace("│", "").split())
    reasons = []
    for run in sweep.runs:
        if run in sweep.done:
            continue
        failed = json.loads((run / "failed.json").read_text())
        reasons.append(failed["error"])
        assert f"{run.name}failed:{failed['type']}:" in flat, "as it happens"
        assert f"outputs/distill/{run.name}/run.log" in flat, "and in the table"
    assert sum("NaN or infinite" in reason for reason in reasons) == 1
    assert sum("heads" in reason for reason in reasons) == 2
    assert sum("memory" in reason for reason in reasons) == 2
    sweep.settle()
    assert sorted(state for _, state, _ in sweep.sacct()) == ["COMPLETED"] + ["FAILED"] * 5

    code, said = sweep.run(*words, "student.hidden_size=16,15", "optimizer.lr=0.001")
    assert code == 1
    assert "2 runs: 1 finished before, 0 joined, 1 submitted" in said, "what failed is tried again"


def test_what_sbatch_refuses_is_a_sentence(sweep):
    code, said = sweep.run("hydra.launcher.partition=nowhere")
    assert code == 2
    assert said.splitlines()[-1].startswith("error: cluster=slurm: sbatch refused the jobs: ")
    assert "invalid partition" in said


def test_a_setting_that_is_none_is_refused(sweep):
    code, said = sweep.run("hydra.launcher.partitio=main")
    assert code == 2
    assert "partitio" in said
