"""Faults injected into running sweeps: what was done is kept, and every run ends as an undisturbed one, bit for bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from bits import same_run
from sandbox import wait
from sweeps import LONG, PATIENCE, TWO_SEEDS, Sweep, processes, whole_on_wandb

pytestmark = pytest.mark.cluster
WORDS = [*TWO_SEEDS, "logger=wandb"]


def seed(number: int):
    return lambda run: f"-s{number}-" in run.name


def undisturbed_ones(sweep: Sweep, undisturbed: Path) -> list[int]:
    """Every run of the sweep is what it is in the undisturbed one, and one run in W&B.

    Returns:
        How many parts each has in W&B, by seed.
    """
    names = sorted(path.parent.name for path in undisturbed.glob("outputs/distill/*/done.json"))
    assert [run.name for run in sweep.done] == names
    for run in sweep.done:
        same_run(undisturbed / "outputs/distill" / run.name, run)
    parts = whole_on_wandb(sweep.folder, sweep.done)
    return [parts[run.name] for number in (0, 1) for run in sweep.done if seed(number)(run)]


@pytest.mark.fault(name="`kill -9` of a job in mid-training", runs=2)
def test_kill_9_of_a_job(taught, undisturbed):
    taught.begin(*WORDS)
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
    code, said = taught.run(*WORDS)
    assert code == 0, said
    assert "2 runs: 1 finished before, 0 joined, 1 submitted" in said
    assert (other / "done.json").read_bytes() == kept, "the other's result is kept"
    assert undisturbed_ones(taught, undisturbed) == [2, 1]


@pytest.mark.fault(name="`kill -9` of the driver; the relaunch joins its jobs", runs=2)
def test_kill_9_of_the_driver(taught, undisturbed):
    driver = taught.begin(*WORDS)
    taught.when(seed(0))
    taught.when(seed(1))
    os.kill(driver.pid, signal.SIGKILL)
    taught.start(*WORDS)
    taught.says("2 runs: 0 finished before, 2 joined, 0 submitted")
    taught.release()
    code, said = taught.end()
    assert code == 0, said
    assert "2 runs: 2 finished" in said
    assert len(taught.sacct()) == 2
    assert undisturbed_ones(taught, undisturbed) == [1, 1]


@pytest.mark.fault(name="the same command twice at the same instant", runs=2)
def test_two_drivers_at_the_same_instant(taught, undisturbed):
    first, second = taught.start(*WORDS), taught.start(*WORDS)
    assert [first.wait(PATIENCE), second.wait(PATIENCE)] == [0, 0]
    assert len(taught.sacct()) == 2
    assert undisturbed_ones(taught, undisturbed) == [1, 1]


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
    taught.begin(*WORDS)
    nodes = [taught.node(taught.when(seed(number))) for number in (0, 1)]  # which may be one
    taught.slurm.kill_node(node := nodes[0])
    taught.release()
    try:
        code, said = taught.end()
    finally:
        taught.slurm.revive_node(node)
    assert code == 0, said
    assert "2 runs: 2 finished" in said, "put back into the queue, without a relaunch"
    assert undisturbed_ones(taught, undisturbed) == [2 if one == node else 1 for one in nodes]


@pytest.mark.fault(name="a node loses its network, its job runs on", runs=2)
def test_a_node_loses_its_network_and_its_job_runs_on(taught, undisturbed):
    """SLURM starts the job on the other node, where it waits until the first writer is done."""
    taught.begin(*WORDS)
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
    assert undisturbed_ones(taught, undisturbed) == [1, 1]


@pytest.mark.fault(name="preemption by a job of a higher partition", runs=2, injected=2)
def test_preemption(taught, undisturbed):
    taught.begin(*WORDS)
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
    assert undisturbed_ones(taught, undisturbed) == [2, 2]


@pytest.mark.fault(name="walltime reached", runs=2, injected=2)
def test_the_walltime_is_reached(taught, undisturbed):
    """In the middle of training, however long a job takes to start here: its end is brought near once it is there.

    SLURM warns one job, and the other hears of it as it is ended, as one whose warning came while it could not hear.
    """
    taught.begin(*WORDS, "hydra.launcher.timeout_min=10", "hydra.launcher.signal_delay_s=10")
    warned, ended = taught.when(seed(0)), taught.when(seed(1))
    assert set(taught.slurm.ask("squeue", "-h", "-o", "%l").stdout.split()) == {"10:00"}
    taught.expire(warned, 45)
    taught.expire(ended, 1)
    taught.extend(ended)
    taught.extend(warned)
    taught.release()
    code, said = taught.end()
    assert code == 0, said
    assert "2 runs: 2 finished" in said, "put back into the queue, without a relaunch"
    assert taught.logs.count("Requeued job") == 2
    assert undisturbed_ones(taught, undisturbed) == [2, 2]
