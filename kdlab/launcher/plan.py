"""The plan of a sweep, on disk while its driver lives: `kdlab runs live=true` shows the jobs in wait."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from kdlab.config.job import group_of
from kdlab.config.point import Grid
from kdlab.report.read import PLANS

MOST = 10_000  # jobs that are written down one by one


def write(config: DictConfig, name: str) -> IO[str]:
    """Write a file of its own below ``<outputs>/<command>/.sweeps``; it counts as long as the returned file is open.

    Args:
        config: the sweep's config, as Hydra's callbacks get it.
        name: of the sweep, as its runs' sweep.json has it.
    """
    folder = Path(config.outputs) / config.hydra.job.config_name / PLANS
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    grid = Grid(config.hydra.job.config_name, list(config.hydra.overrides.task), config, _loader())
    choices = config.hydra.runtime.choices
    group = group_of(config, choices, config.hydra.job.config_name)
    search = OmegaConf.select(config, "hydra.sweeper.n_trials") is not None
    jobs: list[str] = []
    if not search and grid.jobs <= MOST:
        jobs = [", ".join(words) for words in itertools.product(*grid.swept.values())]
    file = _locked(folder / f"{name}.{uuid.uuid4().hex[:8]}.json")  # two drivers may go through one sweep
    json.dump({"sweep": name, "group": str(group), "count": grid.jobs, "jobs": jobs}, file)
    file.flush()
    return file


def count(file: IO[str]) -> int:
    """The number of jobs of the sweep."""
    with suppress(OSError, ValueError):
        file.seek(0)
        return int(json.load(file)["count"])
    return 0


def end(file: IO[str]) -> None:
    """The sweep is over, or its driver is; plans of drivers that were killed go with its own."""
    with suppress(OSError):
        Path(file.name).unlink(missing_ok=True)
        clear(Path(file.name).parent)
    file.close()


def clear(folder: Path) -> None:
    """Remove the plans whose drivers were killed: no process holds their locks any more."""
    for path in folder.glob("*.json"):
        with suppress(OSError), path.open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _locked(path: Path) -> IO[str]:
    """A new file that this process holds, and that is at ``path``: another driver may clear it before it is locked."""
    while True:
        file = path.open("w+", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()


def _loader() -> Any:
    return GlobalHydra.instance().config_loader()
