"""What Hydra finds of kdlab's engines; it is imported by every command, so all that takes time waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@final
class Slurm(Launcher):
    """See :mod:`kdlab.launcher.slurm` and conf/hydra/launcher/slurm.yaml."""

    def __init__(self, **settings: Any) -> None:
        """The settings are read from each job's own config, since a sweep may vary them."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from kdlab.launcher.slurm import launch

        return launch(self.context, self.function, self.config, job_overrides, initial_job_idx)
