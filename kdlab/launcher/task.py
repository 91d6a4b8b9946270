"""A SLURM job: the run on its first process, and on the others the runs that the first announces."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from hydra.core.singleton import Singleton
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

from kdlab import queue
from kdlab.callback.preemption import Preempted, notice
from kdlab.fit.follow import follow_all
from kdlab.fit.rank import SHARED, share_run
from kdlab.launcher.start import ASKING


@final
class Task:
    """A job of the sweep as submitit pickles it; it is in the hands of submitit how a job is put back into the queue.

    Args:
        work: the function that runs Hydra's job.
        patience: seconds that a run has to reach the end of a step once it is asked to leave.
    """

    def __init__(self, work: BaseSubmititLauncher, patience: float) -> None:
        self.work, self.patience = work, patience

    def __call__(self, overrides: list[str], number: int, state: Mapping[type, Singleton]) -> None:

        requeue = signal.getsignal(signal.SIGUSR2)
        try:
            notice.listen(self.patience)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)
            if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
                _gather()
            if int(os.environ.get("SLURM_PROCID", "0")) > 0:
                follow_all(Path(os.environ[SHARED]))
                return
            job = os.environ.get("SLURM_JOB_ID", "")
            done = self.work(overrides, "hydra.sweep.dir", number, job, state)
            share_run(None)
            done.return_value  # noqa: B018  raises what the run raised, so that SLURM calls the job failed
        except Preempted:
            if int(os.environ.get("SLURM_PROCID", "0")) > 0:
                return
            _leave(requeue)
        finally:
            notice.obeyed()
            notice.asked = True  # there is nothing left to leave: a late signal must not end what submitit writes

    def checkpoint(self, *arguments: Any) -> Any:
        """The same task again for submitit's queue, which goes on from the run's own checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def _leave(requeue: Any) -> None:
    """Back into the queue if SLURM only takes the place away, and not if somebody cancelled the job."""
    from submitit import JobEnvironment

    if not queue.displaced(JobEnvironment().job_id):  # not SLURM_JOB_ID, which may mean a whole array
        sys.exit("left: the job was cancelled")
    requeue(signal.SIGUSR2, None)


def _gather() -> None:
    """Make the processes of this job one group, in which Lightning sees our ranks and not SLURM's."""
    nodes, tasks = int(os.environ["SLURM_NNODES"]), int(os.environ["SLURM_NTASKS"])
    del os.environ["SLURM_NTASKS"]  # else Lightning takes even a teacher on one device for one of many ranks
    shared = Path(os.environ["SUBMITIT_FOLDER"]) / f"ranks-{os.environ.get('SLURM_RESTART_COUNT', '0')}.json"
    os.environ[SHARED] = str(shared).replace("%j", os.environ["SLURM_JOB_ID"])
    if int(os.environ["SLURM_PROCID"]) > 0:
        os.environ["RANK"] = os.environ["SLURM_PROCID"]
        os.environ["NODE_RANK"] = os.environ["SLURM_NODEID"]
        os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
    else:
        os.environ["KDLAB_DEVICES"] = f"{nodes}x{tasks // nodes}"
        os.environ.setdefault("MASTER_ADDR", _address())


def _address() -> str:
    """A name of this node that the other nodes can resolve."""
    for name in (os.environ.get("SLURMD_NODENAME", ""), socket.gethostname()):
        try:
            socket.getaddrinfo(name, None)
        except OSError:
            continue
        if name:
            return name
    listed = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()[0]
