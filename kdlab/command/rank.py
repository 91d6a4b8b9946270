"""A run on several devices: the process that owns its directory starts one more for each further device.

Lightning would start the command line again; that would compose the config again and wait for the run's lock for good.
These processes read the run directory instead, and write nothing but their own log. Where a cluster has started them
already, on one node or several, they wait for a file that the first process shares with them.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf

from kdlab.error import UserError
from kdlab.file import write_json

READY = "ready\n"
SHARED = "KDLAB_RANKS"  # names the file in which the first process of a cluster's job tells the others what to do
DEVICES = "KDLAB_DEVICES"  # nodes x processes a node that the cluster started


@contextmanager
def companions(trainer: Trainer, folder: Path) -> Iterator[None]:
    """The other processes of the run in ``folder``: started here, each ready to train, and gone in the end.

    Nothing happens on one device, nor where this process was itself started for one device of several.

    Raises:
        UserError: one of them failed; its log says why.
    """
    if trainer.num_devices * trainer.num_nodes == 1 or "LOCAL_RANK" in os.environ:
        yield
        return
    before = dict(os.environ)
    if DEVICES in os.environ:
        try:
            _told(trainer, folder)
            yield
        finally:
            _apart(before)
        return
    if trainer.num_nodes > 1:
        raise UserError(f"trainer.num_nodes={trainer.num_nodes}, but this is one machine; use cluster=slurm")
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_port()), "NODE_RANK": "0", "LOCAL_RANK": "0"}
    processes = []
    try:
        with ExitStack() as logs:
            for rank in range(1, trainer.num_devices):
                log = logs.enter_context((folder / f"rank-{rank}.log").open("w"))
                command = [sys.executable, "-m", "kdlab.command.rank", str(folder)]
                environment = os.environ | {"LOCAL_RANK": str(rank)}
                processes.append(
                    subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
                )
        for rank, process in enumerate(processes, 1):  # else this process would wait half an hour for a dead one
            if process.stdout is None or process.stdout.readline() != READY:
                raise _failed(folder, rank)
        yield
        for rank, process in enumerate(processes, 1):
            if process.wait():
                raise _failed(folder, rank)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        _apart(before)


def _told(trainer: Trainer, folder: Path) -> None:
    """Tell the processes that the cluster started to train the run in ``folder``."""
    ours = f"{trainer.num_nodes}x{trainer.num_devices}"
    if ours != os.environ[DEVICES]:
        raise UserError(
            f"the run is for {ours} processes (trainer.num_nodes x trainer.devices), and its job has "
            f"{os.environ[DEVICES]}; a teacher is trained on one device or on as many as its students"
        )
    os.environ |= {"MASTER_PORT": str(_port()), "NODE_RANK": "0", "LOCAL_RANK": "0"}
    tell(folder)


def _apart(before: dict[str, str]) -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # the next job of a sweep makes its own
    os.environ.clear()
    os.environ |= before


def tell(folder: Path | None) -> None:
    """Share with the cluster's other processes which run comes next; None: there is none any more."""
    if SHARED not in os.environ:
        return
    path = Path(os.environ[SHARED])
    said = json.loads(path.read_text()) if path.exists() else []
    place = {name: os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT") if name in os.environ}
    write_json(path, [*said, {"folder": str(folder.absolute())} | place if folder else {}])


def follow_all(shared: Path) -> None:
    """Train as one process of each run that the first process tells of in ``shared``, until there is none any more."""
    place = 0
    while True:
        list(shared.parent.iterdir())  # a network file system looks again
        said = json.loads(shared.read_text()) if shared.exists() else []
        if place == len(said):
            time.sleep(0.2)
            continue
        told = said[place]
        if not told:
            return
        os.environ |= {name: told[name] for name in ("MASTER_ADDR", "MASTER_PORT")}
        follow(Path(told["folder"]))
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        place += 1


def follow(folder: Path) -> None:
    """Train as one process of the run in ``folder``; its teacher and stores are there already."""
    from kdlab.command import select, train
    from kdlab.command.job import Job
    from kdlab.command.teacher import teachers_of
    from kdlab.logger.base import opened
    from kdlab.run import Run, read_config

    told, sys.stdout = sys.stdout, sys.stderr
    cfg = read_config(folder)
    for place, found in teachers_of(folder).items():
        OmegaConf.update(cfg, place, {"run": found, "generations": 0})
    job, run = Job(cfg.command, folder, cfg, {}, []), Run(folder)
    if cfg.cluster.threads:
        torch.set_num_threads(cfg.cluster.threads)
    torch.manual_seed(cfg.seed)
    data = select.data(cfg)
    prepared = import_module(f"kdlab.command.{cfg.command}").prepare(job, data)
    with opened(train.info(job, run, prepared.teachers), {}) as journal:
        print(READY, end="", file=told, flush=True)
        train.fit(job, run, prepared.learner, data, journal)


def _failed(folder: Path, rank: int) -> UserError:
    lines = (folder / f"rank-{rank}.log").read_text().strip().splitlines()
    reason = lines[-1] if lines else "it said nothing"
    return UserError(f"the process of device {rank} failed: {reason} (all of it is in {folder}/rank-{rank}.log)")


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
