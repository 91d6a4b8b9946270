"""One point of a sweep, composed in the driver as its job will compose it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from kdlab.artifact.run import enroll, read_done
from kdlab.config.job import Job, current
from kdlab.error import JobError
from kdlab.launcher.sweep import Failed


@dataclass(frozen=True)
class Point:
    """One point of the sweep.

    Attributes:
        number: of the job in the sweep.
        settings: ``hydra.launcher`` of its own config, resolved.
    """

    number: int
    overrides: list[str]
    job: Job
    settings: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.job.folder

    @property
    def submissions(self) -> Path:
        """The folder of submitit's files for the sweep's jobs, and the runs that they do."""
        return Path(str(self.settings["submitit_folder"]).partition("%")[0]).absolute()

    @property
    def finished(self) -> bool:
        return read_done(self.folder) is not None

    def enroll(self) -> None:
        """Make the run a member of this sweep, for the table that ends it."""
        if self.job.sweep:
            self.folder.mkdir(parents=True, exist_ok=True)
            enroll(self.folder, self.job.sweep | {"group": self.job.group})

    def result(self, why: str) -> JobReturn:
        """The result of the run for Hydra: its value, or ``why`` it has none."""
        done = read_done(self.folder)
        if done is None:
            failed: JobReturn = Failed(overrides=self.overrides, status=JobStatus.FAILED)
            failed._return_value = JobError(f"run {self.folder.name} failed: {why}; the same command tries it again")
            return failed
        finished = JobReturn(overrides=self.overrides, status=JobStatus.COMPLETED)
        finished.working_dir, finished._return_value = str(self.folder), done["value"]
        return finished


def composed(context: HydraContext, config: DictConfig, overrides: list[str], number: int) -> Point:
    """The point as its job will compose it: where it writes, and what it asks its launcher for."""
    hydra = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(hydra.hydra):
        hydra.hydra.job.num, hydra.hydra.job.id = number, "?"
    before = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(hydra)
        folder = Path(str(hydra.hydra.sweep.dir)) / str(hydra.hydra.sweep.subdir)
        with read_write(hydra.hydra.runtime), open_dict(hydra.hydra.runtime):
            hydra.hydra.runtime.output_dir = str(folder.absolute())
        HydraConfig.instance().set_config(hydra)
        cfg = OmegaConf.masked_copy(hydra, [str(key) for key in hydra if key != "hydra"])
        job = current(str(hydra.hydra.job.config_name), cfg)
        settings: Any = OmegaConf.to_container(hydra.hydra.launcher, resolve=True)
        return Point(number, overrides, job, settings)
    finally:
        HydraConfig.instance().cfg = before
