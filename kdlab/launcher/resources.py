"""Jobs side by side on one machine: each has its share of the cores, and GPUs of its own as long as there are some."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import tempfile
from itertools import count
from pathlib import Path
from typing import IO

from omegaconf import OmegaConf

_held: list[IO[str]] = []  # locks of the GPUs that this process has; they end with it


def cores(jobs: int) -> int:
    """The number of threads of each of ``jobs`` jobs; as joblib counts, -1 is a job a core and -2 one less.

    The resolver ``${cores_per_job:jobs}``.
    """
    here = len(os.sched_getaffinity(0))
    return max(1, here // (jobs if jobs > 0 else max(1, here + 1 + jobs)))


def take_gpus(devices: int) -> None:
    """Show this process only GPUs that no other job of the machine was given; in the process that drives, all stay.

    A process that does one job after the other keeps its GPUs, since CUDA does not let it change them. Where there are
    more jobs than GPUs, each GPU is given out once before one is given out twice.

    Args:
        devices: number of GPUs that the job trains on.
    """
    present = visible()
    if _held or not present or multiprocessing.current_process().name == "MainProcess":
        return
    folder = Path(tempfile.gettempdir()) / f"kdlab-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    taken: list[str] = []
    for lap in count():
        for gpu in present:
            if len(taken) < min(devices, len(present)) and gpu not in taken and _take(folder / f"{gpu}.{lap}.lock"):
                taken.append(gpu)
        if len(taken) == min(devices, len(present)):
            break
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)


def visible() -> list[str]:
    """The GPUs that this process may use, without waking CUDA."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [gpu.strip() for gpu in allowed.split(",") if gpu.strip() not in ("", "-1")]
    known = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(known.iterdir())))] if known.is_dir() else []


def _take(path: Path) -> bool:
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _held.append(file)
    return True


OmegaConf.register_new_resolver("cores_per_job", cores, replace=True)
