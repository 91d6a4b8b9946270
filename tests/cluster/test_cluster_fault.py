"""Faults injected into running sweeps: what was done is kept, and every run ends as an undisturbed one, bit for bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from bits import same_run
from sandbox import wait
from sweeps import LONG, PATIENCE, TWO_SEEDS, Sweep, processes

pytestmark = pytest.mark.cluster


def seed(number: int):
    return lambda run: f"-s{number}-" in run.name


def undisturbed_ones(sweep: Sweep, undisturbed: Path) -> None:
    """Every run of the sweep is what it is in the undisturbed one."""
    names = sorted(path.parent.name for path in undisturbed.glob("outputs/distill/*/done.json"))
    assert [run.name for run in sweep.done] == names
    for run in sweep.done:
        same_run(undisturbed / "outputs/distill" / run.name, run)


@pytest.mark.fault(name="`kill -9` of a job in mid-training", runs=2)
def test_kill_9_of_a_job(taught, undisturbed):
    words = [*TWO_SEEDS, "logger=wandb"]
    taught.begin(*words)
    victim = taught.when(seed(0))
    (process,) = processes(job := taught.job(victim))
    os.kill(process, signal.SIGKILL)
    taught.release()
    code, said = taught.end()
    assert code == 1
    assert "1 finished" in said and "1 failed" in said
    flat = "".join(said.split()).replace("│", "")
    assert f"job{job}endedwithoutaresult:FAILED" in flat
    assert "Traceback" not in said
    (other,) = taught.done
    kept = (other / "done.json").read_bytes()
    code, said = taught.run(*words)
    assert code == 0, said
    assert "2 runs: 1 finished before, 0 joined, 1 submitted" in said
    assert (other / "done.json").read_bytes() == kept, "the other's result is kept"
    undisturbed_ones(taught, undisturbed)
    for run, parts in ((victim, 2), (other, 1)):
        found = list(taught.folder.glob(f"outputs/wandb/offline-run-*-{run.name}"))
        assert len(found) == parts, "the parts of one run of W&B, by its id"


@pytest.mark.fault(name="`kill -9` of the driver; the relaunch joins its jobs", runs=1)
def test_kill_9_of_the_driver(taught, undisturbed):
    driver = taught.begin(*TWO_SEEDS)
    taught.when(seed(0))
    taught.when(seed(1))
    os.kill(driver.pid, signal.SIGKILL)
    taught.start(*TWO_SEEDS)
    taught.says("2 runs: 0 finished before, 2 joined, 0 submitted")
    taught.release()
    code, said = taught.end()
    assert code == 0, said
    assert "2 runs: 2 finished" in said
    assert len(taught.sacct()) == 2
    undisturbed_ones(taught, undisturbed)


@pytest.mark.fault(name="the same command twice at the same instant", runs=2)
def test_two_drivers_at_the_same_instant(taught, undisturbed):
    first, second = taught.start(*TWO_SEEDS), taught.start(*TWO_SEEDS)
    assert [first.wait(PATIENCE), second.wait(PATIENCE)] == [0, 0]
    assert len(taught.sacct()) == 2
    undisturbed_ones(taught, undisturbed)


def test_a_cancelled_job_is_not_put_back(taught):
    taught.begin(*LONG)
    job = taught.job(taught.when())
    taught.slurm.ask("scancel", job)
    code, said = taught.end()
    assert code == 1
    assert "CANCELLED" in said
    taught.settle()
    assert len(taught.sacct()) == 1


@pytest.mark.fault(name="a node loses power", runs=2)
def test_a_node_loses_power(taught, undisturbed):
    taught.begin(*TWO_SEEDS)
    node = taught.node(taught.when(seed(0)))
    taught.when(seed(1))
    taught.slurm.kill_node(node)
    taught.release()
    try:
        code, said = taught.end()
    finally:
        taught.slurm.revive_node(node)
    assert code == 0, said
    assert "2 runs: 2 finished" in said, "put back into the queue, without a relaunch"
    undisturbed_ones(taught, undisturbed)


@pytest.mark.fault(name="a node loses its network, its job runs on", runs=2)
def test_a_node_loses_its_network_and_its_job_runs_on(taught, undisturbed):
    """SLURM starts the job on the other node, where it waits until the first writer is done."""
    taught.begin(*TWO_SEEDS)
    victim = taught.when(seed(0))
    taught.when(seed(1))
    node = taught.node(victim)
    taught.slurm.freeze_node(node)
    try:
        wait(lambda: "waiting for run" in taught.logs, "the job waits on the other node", PATIENCE)
        taught.release()
        code, said = taught.end()
    finally:
        taught.slurm.revive_node(node)
    assert code == 0, said
    rows = [line.split(",")[0] for line in (victim / "history.csv").read_text().splitlines()[1:]]
    assert rows == sorted(set(rows), key=int), "one writer"
    undisturbed_ones(taught, undisturbed)


@pytest.mark.fault(name="preemption by a job of a higher partition", runs=2, injected=2)
def test_preemption(taught, undisturbed):
    taught.begin(*TWO_SEEDS)
    taught.when(seed(0))
    taught.when(seed(1))
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--nodes=2", "--output=/dev/null", "--wrap=sleep 1"]
    assert taught.slurm.ask(*urgent).returncode == 0
    taught.requeued(2)
    taught.release()
    code, said = taught.end()
    assert code == 0, said
    assert "2 runs: 2 finished" in said
    assert taught.logs.count("Requeued job") == 2
    undisturbed_ones(taught, undisturbed)


@pytest.mark.fault(name="walltime reached", runs=2, injected=2)
def test_the_walltime_is_reached(taught, undisturbed):
    taught.begin(*TWO_SEEDS, "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=15")
    taught.requeued(2)
    taught.release()
    code, said = taught.end()
    assert code == 0, said
    undisturbed_ones(taught, undisturbed)
