"""kdlab's engines as Hydra plugins; this file is imported by every command, so all that takes time waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

import kdlab.config.overriding  # noqa: F401  an option may choose options of other groups


@final
class Local(Launcher):
    """See :mod:`kdlab.launcher.local` and conf/hydra/launcher/local.yaml."""

    def __init__(self, **settings: Any) -> None:
        """The settings are read from the config of the sweep."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.given = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from kdlab.launcher.local import launch

        return launch(*self.given, job_overrides, initial_job_idx)


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


@final
class Ray(Launcher):
    """See :mod:`kdlab.launcher.ray` and conf/hydra/launcher/ray.yaml."""

    def __init__(self, **settings: Any) -> None:
        """The settings are read from each job's own config, since a sweep may vary them."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.given = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from kdlab.launcher.ray import launch

        return launch(*self.given, job_overrides, initial_job_idx)


@final
class Optuna(Sweeper):
    """See :mod:`kdlab.launcher.search` and conf/hydra/sweeper/optuna.yaml."""

    def __init__(self, **settings: Any) -> None:
        self.settings = {
            name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for name, value in settings.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.hydra_context, self.config, self.launcher = hydra_context, config, launcher
        self.given = hydra_context, config, launcher

    def sweep(self, arguments: list[str]) -> Any:
        from kdlab.launcher.search import sweep

        return sweep(self.settings, *self.given, arguments)
