"""Faults injected into running sweeps: what was done is kept, and every run ends as an undisturbed one, bit for bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from bits import same_run
from sweeps import LONG, TWO_SEEDS, Sweep, length, local, processes

pytestmark = pytest.mark.cluster


MINUTE = [*LONG, "trainer.max_epochs=400", "trainer.check_val_every_n_epoch=20"]  # about a minute of training


@pytest.fixture(scope="module")
def minute(tiny, tmp_path_factory) -> Path:
    """The folder of the run of MINUTE that nothing disturbed."""
    folder = tmp_path_factory.mktemp("minute")
    local(folder, *tiny["distill"], *MINUTE)
    return folder


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
    taught.start(*TWO_SEEDS)
    victim = taught.when(seed(0), rows=20)
    (process,) = processes(job := taught.job(victim))
    os.kill(process, signal.SIGKILL)
    code, said = taught.end()
    assert code == 1
    assert "1 finished" in said and "1 failed" in said
    flat = "".join(said.split()).replace("│", "")
    assert f"job{job}endedwithoutaresult:FAILED" in flat
    assert "Traceback" not in said
    assert len(taught.done) == 1, "the other's result is kept"
    steps = length(victim)
    code, said = taught.run(*TWO_SEEDS)
    assert code == 0, said
    assert "2 runs: 1 finished before, 0 joined, 1 submitted" in said
    assert steps > 20, "it was in the middle"
    undisturbed_ones(taught, undisturbed)


@pytest.mark.fault(name="`kill -9` of the driver; the relaunch joins its jobs", runs=1)
def test_kill_9_of_the_driver(taught, minute):
    driver = taught.start(*MINUTE)
    taught.when(seed(0), rows=10)
    os.kill(driver.pid, signal.SIGKILL)
    code, said = taught.run(*MINUTE)
    assert code == 0, said
    assert "1 runs: 0 finished before, 1 joined, 0 submitted" in said
    assert "1 runs: 1 finished" in said
    assert len(taught.sacct()) == 1
    undisturbed_ones(taught, minute)


@pytest.mark.fault(name="the same command twice at the same instant", runs=2)
def test_two_drivers_at_the_same_instant(taught, undisturbed):
    first, second = taught.start(*TWO_SEEDS), taught.start(*TWO_SEEDS)
    assert [first.wait(300), second.wait(300)] == [0, 0]
    assert len(taught.sacct()) == 2
    undisturbed_ones(taught, undisturbed)


def test_a_cancelled_job_is_not_put_back(taught):
    taught.start(*LONG)
    job = taught.job(taught.when(seed(0), rows=10))
    taught.slurm.ask("scancel", job)
    code, said = taught.end()
    assert code == 1
    assert "CANCELLED" in said
    taught.settle()
    assert len(taught.sacct()) == 1


@pytest.mark.fault(name="a node loses power", runs=2)
def test_a_node_loses_power(taught, undisturbed):
    taught.start(*TWO_SEEDS)
    victim = taught.when(seed(0), rows=20)
    node = taught.node(victim)
    taught.slurm.kill_node(node)
    try:
        code, said = taught.end()
    finally:
        taught.slurm.start_node(node)
        taught.slurm.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert code == 0, said
    assert "2 runs: 2 finished" in said, "put back into the queue, without a relaunch"
    undisturbed_ones(taught, undisturbed)


@pytest.mark.fault(name="a node loses its network, its job runs on", runs=1)
def test_a_node_loses_its_network_and_its_job_runs_on(taught, minute):
    """SLURM starts the job on the other node, where it waits until the first writer is done."""
    taught.start(*MINUTE)
    victim = taught.when(seed(0), rows=10)
    node = taught.node(victim)
    taught.slurm.freeze_node(node)
    try:
        code, said = taught.end()
    finally:
        taught.slurm.start_node(node)
        taught.slurm.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert code == 0, said
    rows = [line.split(",")[0] for line in (victim / "history.csv").read_text().splitlines()[1:]]
    assert rows == sorted(set(rows), key=int), "one writer"
    undisturbed_ones(taught, minute)


@pytest.mark.fault(name="preemption by a job of a higher partition", runs=2, injected=2)
def test_preemption(taught, undisturbed):
    taught.start(*TWO_SEEDS)
    taught.when(seed(0), rows=20)
    taught.when(seed(1), rows=20)
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--nodes=2", "--output=/dev/null", "--wrap=sleep 2"]
    assert taught.slurm.ask(*urgent).returncode == 0
    code, said = taught.end()
    assert code == 0, said
    assert "2 runs: 2 finished" in said
    taught.settle()
    undisturbed_ones(taught, undisturbed)
    logs = "".join(path.read_text() for path in taught.folder.glob("outputs/distill/.submitit/*/*_log.err"))
    logs += "".join(path.read_text() for path in taught.folder.glob("outputs/distill/.submitit/*/*_log.out"))
    assert logs.count("Requeued job") == 2


@pytest.mark.fault(name="walltime reached", runs=1)
def test_the_walltime_is_reached(taught, minute):
    limits = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=20"]
    taught.start(*MINUTE, *limits)
    code, said = taught.end(600)
    assert code == 0, said
    taught.settle()
    logs = "".join(path.read_text() for path in taught.folder.glob("outputs/distill/.submitit/*/*_log.*"))
    assert "Requeued job" in logs
    undisturbed_ones(taught, minute)
