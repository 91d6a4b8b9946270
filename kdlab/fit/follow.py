"""The other processes of a run on several devices: they read its directory, and train with the first one."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

from kdlab.artifact import select
from kdlab.artifact.run import Run
from kdlab.artifact.trained import teachers_of
from kdlab.config.job import Job
from kdlab.config.node import replace
from kdlab.config.stored import read_config
from kdlab.fit.job import info
from kdlab.fit.rank import READY, Companions
from kdlab.fit.train import fit
from kdlab.logger.base import opened
from kdlab.plan.base import planner


def follow_all(shared: Path) -> None:
    """Train as one process of each run that the first process names in ``shared``, until there is none any more."""
    index = 0
    while True:
        list(shared.parent.iterdir())  # a network file system looks again
        announced = json.loads(shared.read_text()) if shared.exists() else []
        if index == len(announced):
            time.sleep(0.2)
            continue
        entry = announced[index]
        if not entry:
            return
        os.environ |= {name: entry[name] for name in ("MASTER_ADDR", "MASTER_PORT")}
        follow(Path(entry["folder"]))
        leave_group()
        index += 1


def leave_group() -> None:
    """End the threads of the process group, which would abort a process that ends while they run."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def follow(folder: Path) -> None:
    """Train as one process of the run in ``folder``, whose teachers are trained; and help with the teachers' pass."""
    answers, sys.stdout = sys.stdout, sys.stderr
    cfg = read_config(folder)
    for index, found in teachers_of(folder).items():
        replace(cfg, index, {"run": found, "generations": 0})
    job, run = Job(cfg.command, folder, cfg, {}, []), Run(folder)
    if cfg.cluster.threads:
        torch.set_num_threads(cfg.cluster.threads)
    torch.manual_seed(cfg.seed)
    data = select.data(cfg)
    plan = planner(cfg.command)(job, data)
    with opened(info(job, run, plan.teachers), {}) as journal, Companions(cfg.trainer, folder) as others:
        print(READY, end="", file=answers, flush=True)
        fit(job, run, plan.learner, plan.data or data, journal, others)


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
    leave_group()
