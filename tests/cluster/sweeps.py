"""Sweeps of short runs, and what can be asked of them while they run."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import slow
from sandbox import Cluster, commands, environment, wait

from kdlab.logger.wandb import STEP
from kdlab.logger.wandb_log import Log, read
from kdlab.queue import Queued, pending

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
PYTHONPATH = f"{ROOT}:{HERE}"
PATIENCE = 300  # seconds, after which something is wrong; nothing is waited for by the clock
PLACE = ["export MASTER_ADDR=127.0.0.1", "export GLOO_SOCKET_IFNAME=lo"]  # the nodes are one machine
QUICK = [
    "cluster=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.poll_seconds=1",
    "hydra.launcher.settle_seconds=2", f"hydra.launcher.setup={PLACE}",
]  # fmt: skip


@dataclass
class Sweep:
    """One folder, and the command lines that run in it."""

    slurm: Cluster
    folder: Path
    words: list[str]
    drivers: list[subprocess.Popen] = field(default_factory=list)

    def start(self, *more: str, verb: str = "distill") -> subprocess.Popen[str]:
        """A driver that is not waited for."""
        command = [sys.executable, "-m", "kdlab", verb, "-m", *self.words, *more]
        log = (self.folder / f"driver-{len(self.drivers)}.log").open("w")
        self.drivers.append(
            subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, text=True, env=os.environ | {"COLUMNS": "400"}
            )
        )
        return self.drivers[-1]

    def end(self, timeout: float = PATIENCE) -> tuple[int, str]:
        """Exit code and words of the last driver."""
        code = self.drivers[-1].wait(timeout)
        return code, (self.folder / f"driver-{len(self.drivers) - 1}.log").read_text()

    def run(self, *more: str, **named: str) -> tuple[int, str]:
        self.start(*more, **named)
        return self.end()

    @property
    def runs(self) -> list[Path]:
        return sorted(path.parent for path in self.folder.glob("outputs/distill/*/overrides.yaml"))

    @property
    def done(self) -> list[Path]:
        return sorted(path.parent for path in self.folder.glob("outputs/distill/*/done.json"))

    def begin(self, *more: str) -> subprocess.Popen[str]:
        """A driver whose runs are slow from their eleventh step on, until :meth:`release`."""
        (self.folder / slow.FILE).touch()
        return self.start(*more)

    def release(self) -> None:
        (self.folder / slow.FILE).unlink()

    def when(self, run: Callable[[Path], bool] = lambda run: True) -> Path:
        """The first run that ``run`` accepts, once it is in the middle of training."""
        found: list[Path] = []

        def there() -> bool:
            found[:] = [one for one in self.runs if run(one) and length(one) > slow.BEGIN]
            return bool(found)

        wait(there, f"a run in {self.folder} is in the middle", PATIENCE)
        return found[0]

    def says(self, what: str) -> None:
        """Until the last driver has said so."""
        log = self.folder / f"driver-{len(self.drivers) - 1}.log"
        wait(lambda: what in log.read_text(), f"the driver says '{what}'", PATIENCE)

    @property
    def logs(self) -> str:
        """What all jobs said."""
        return "".join(path.read_text() for path in self.folder.glob("outputs/distill/.submitit/*/*_log.*"))

    def requeued(self, times: int) -> None:
        """Until jobs were put back into the queue so often."""
        wait(lambda: self.logs.count("Requeued job") >= times, f"{times} jobs are put back into the queue", PATIENCE)

    def node(self, run: Path) -> str:
        """The node on which a run is done now."""
        return self.queued[run].why

    @property
    def queued(self) -> dict[Path, Queued]:
        return pending(self.folder / "outputs/distill/.submitit") or {}

    def expire(self, run: Path, seconds: int) -> None:
        """Bring the end of the walltime of a run's job so near; SLURM looks every 30 s."""
        self._update(run, f"EndTime=now+{seconds}seconds")

    def extend(self, run: Path) -> None:
        """Give a run's job an hour, once it is back in the queue."""
        wait(lambda: f"Requeued job {self.job(run)} " in self.logs, f"{run.name} is put back into the queue", PATIENCE)
        self._update(run, "TimeLimit=60")

    def _update(self, run: Path, what: str) -> None:
        done = self.slurm.ask("scontrol", "update", f"JobId={self.job(run)}", what)
        assert done.returncode == 0, done.stderr

    def settle(self) -> None:
        """Until the queue is empty: a driver does not wait for processes that have written their result."""
        wait(lambda: not self.slurm.ask("squeue", "-h").stdout.strip(), "the queue is empty", PATIENCE)

    def job(self, run: Path) -> str:
        """SLURM's id of the job that does a run now."""
        return self.queued[run].id

    def sacct(self, fields: str = "JobID,State,NodeList") -> list[list[str]]:
        """The jobs of this folder."""
        done = self.slurm.ask("sacct", "-n", "-P", "-X", f"--format=WorkDir,{fields}")
        return [line.split("|")[1:] for line in done.stdout.splitlines() if line.split("|")[0] == str(self.folder)]


def whole_on_wandb(folder: Path, runs: list[Path]) -> dict[str, int]:
    """Every run has one id in W&B, its own, whatever was done to it, and W&B has each of its steps.

    Returns:
        How many parts each run is in, by its id: one for each time that it was begun or gone on with.
    """
    parts: dict[str, list[Log]] = {run.name: [] for run in runs}
    for path in sorted(folder.glob("outputs/wandb/offline-run-*/run-*.wandb")):
        if (log := read(path)).run.get("job_type", "distill") == "distill":
            name = path.stem.removeprefix("run-")
            assert log.run.get("id", name) == name, "a part that a kill left empty has an id all the same"
            parts[name].append(log)  # one of none of the runs is a KeyError
    for run in runs:
        on_disk = {int(row["step"]) for row in csv.DictReader((run / "history.csv").open())}
        assert on_disk == {int(row[STEP]) for log in parts[run.name] for row in log.history if STEP in row}, run.name
        assert parts[run.name][-1].exit_code == 0, run.name
    return {name: len(found) for name, found in parts.items()}


def length(run: Path) -> int:
    try:
        return len((run / "history.csv").read_text().splitlines())
    except OSError:
        return 0


def processes(job: str) -> list[int]:
    """The Python processes of a job, by rank."""
    found = {}
    for pid, line in commands().items():
        if "submitit.core._submit" in line and "python" in line.split(" ")[0]:
            known = environment(pid)
            ids = (known.get("SLURM_JOB_ID"), f"{known.get('SLURM_ARRAY_JOB_ID')}_{known.get('SLURM_ARRAY_TASK_ID')}")
            if job in ids and "SLURM_PROCID" in known:
                found[int(known["SLURM_PROCID"])] = pid
    return [found[rank] for rank in sorted(found)]


LONG = [
    f"hydra.searchpath=['file://{HERE / 'conf'}']", "callback=[default,slow]", "trainer.max_epochs=12",
    "trainer.log_every_n_steps=1", "callback.checkpoint.every_n_steps=3",
]  # fmt: skip
TWO_SEEDS = [*LONG, "seed=0,1"]


def local(folder: Path, *words: str) -> None:
    """A sweep on this machine, without SLURM."""
    words = ("distill", "-m", *words, "logger=none", "cluster=local", "cluster.threads=1")
    done = subprocess.run(
        [sys.executable, "-m", "kdlab", *words], cwd=folder, capture_output=True, text=True, timeout=PATIENCE,
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
