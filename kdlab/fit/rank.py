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
from pathlib import Path
from typing import final

import torch

from kdlab.config import instantiate
from kdlab.config.node import Node
from kdlab.error import UserError
from kdlab.file import write_json

READY = "ready\n"
SHARED = "KDLAB_RANKS"  # names the file in which the first process of a cluster's job names the runs for the others
DEVICES = "KDLAB_DEVICES"  # nodes x processes a node that the cluster started


@final
class Companions:
    """The other processes of a run, one for each further device.

    They are started once the run's teachers are there, help to ask these, and then train. Nothing happens on one
    device, nor where this process was itself started for one device of several.

    Args:
        node: ``cfg.trainer``.
        folder: the run directory.
    """

    def __init__(self, node: Node, folder: Path) -> None:
        self.node, self.folder = node, folder
        self.processes: list[subprocess.Popen[str]] = []
        self.begun = False
        self.before: dict[str, str] | None = None  # the environment, where it was changed

    def start(self) -> None:
        """Start them, if they are not.

        Raises:
            UserError: the run is for another number of devices than there are.
        """
        alone = self.node.get("devices", 1) == self.node.get("num_nodes", 1) == 1
        if self.begun or alone or "LOCAL_RANK" in os.environ:
            return
        self.begun = True
        trainer = instantiate.make(self.node, logger=False, enable_checkpointing=False, enable_model_summary=False)
        nodes, devices = trainer.num_nodes, trainer.num_devices
        if nodes * devices == 1:
            return
        self.before = dict(os.environ)
        if DEVICES in os.environ:
            _share_checked(nodes, devices, self.folder)
            return
        if nodes > 1:
            raise UserError(f"trainer.num_nodes={nodes}, but this is one machine; use cluster=slurm")
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_port()), "NODE_RANK": "0", "LOCAL_RANK": "0"}
        os.environ["LOCAL_WORLD_SIZE"] = str(devices)
        for rank in range(1, devices):
            command = [sys.executable, "-m", "kdlab.fit.follow", str(self.folder)]
            environment = os.environ | {"LOCAL_RANK": str(rank)}
            with (self.folder / f"rank-{rank}.log").open("w") as log:
                self.processes.append(
                    subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
                )

    def ready(self) -> None:
        """Wait until all are ready to train.

        Raises:
            UserError: one of them failed; its log has the reason.
        """
        self.start()
        for rank, process in enumerate(self.processes, 1):  # else this process would wait half an hour for a dead one
            if process.stdout is None or process.stdout.readline() != READY:
                raise _failed(self.folder, rank)

    def finish(self) -> None:
        """Wait until all have trained, and leave their group: the next job of a sweep makes its own.

        Raises:
            UserError: one of them failed; its log has the reason.
        """
        for rank, process in enumerate(self.processes, 1):
            if process.wait():
                raise _failed(self.folder, rank)
        self._apart()

    def __enter__(self) -> Companions:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._apart()

    def _apart(self) -> None:
        if self.before is None:
            return
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os.environ.clear()
        os.environ |= self.before


def _share_checked(nodes: int, devices: int, folder: Path) -> None:
    """Let the processes that the cluster started train the run in ``folder``."""
    if f"{nodes}x{devices}" != os.environ[DEVICES]:
        raise UserError(
            f"the run is for {nodes}x{devices} processes (trainer.num_nodes x trainer.devices), and its job has "
            f"{os.environ[DEVICES]}; a teacher is trained on one device or on as many as its students"
        )
    os.environ |= {"MASTER_PORT": str(_port()), "NODE_RANK": "0", "LOCAL_RANK": "0"}
    share_run(folder)


def share_run(folder: Path | None) -> None:
    """Share the next run with the cluster's other processes; None: there is none any more."""
    if SHARED not in os.environ:
        return
    path = Path(os.environ[SHARED])
    announced = json.loads(path.read_text()) if path.exists() else []
    address = {name: os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT") if name in os.environ}
    write_json(path, [*announced, {"folder": str(folder.absolute())} | address if folder else {}])


def _failed(folder: Path, rank: int) -> UserError:
    lines = (folder / f"rank-{rank}.log").read_text().strip().splitlines()
    reason = lines[-1] if lines else "its log is empty"
    return UserError(f"the process of device {rank} failed: {reason} (all of it is in {folder}/rank-{rank}.log)")


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
