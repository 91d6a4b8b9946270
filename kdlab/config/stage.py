"""The jobs of a run of several stages: each starts from the student of the one before, and is a run of its own.

So a finished stage is not done again, a killed one goes on from its checkpoint, and jobs of a sweep that have a stage
in common do it once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kdlab.config.identity import named as run_name
from kdlab.config.job import Job, composed
from kdlab.error import UserError


def earlier(job: Job) -> list[Job]:
    """The jobs of the stages before the run itself, in order.

    A stage is this run with the overrides that ``stages.earlier`` lists for it. An option that it chooses comes as its
    file says, without what the run sets within it. Each starts from the one before it; the first from ``start``.

    Raises:
        UserError: overrides that do not compose.
    """
    jobs: list[Job] = []
    name = job.choices.get("stages", "none")
    for number, listed in enumerate(job.cfg.stages.earlier if "stages" in job.cfg else []):
        words = [str(word) for word in listed]
        try:
            cfg, chosen = _changed(job, words)
        except (HydraException, OmegaConfBaseException) as problem:
            raise UserError(f"stages.earlier.{number}: {' '.join(str(problem).split())}") from problem
        with open_dict(cfg):
            cfg.stages = {"earlier": []}
            cfg.start = jobs[-1].folder.name if jobs else job.cfg.start
            cfg.rerun = False
        choices = job.choices | chosen | {"stages": f"{'stage' if name == 'none' else name}{number + 1}"}
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        folder = Path(cfg.outputs) / job.command / run_name(choices, plain)
        own = [word for word in job.overrides if not word.startswith(("stages=", "stages.", "rerun="))]
        jobs.append(Job(job.command, folder, cfg, choices, [*own, *words]))
    return jobs


def _changed(job: Job, words: list[str]) -> tuple[DictConfig, dict[str, str]]:
    """The run's config with overrides, and the options that they choose by group."""
    parsed = OverridesParser.create().parse_overrides(words)
    options = [one for one in parsed if _chooses(one, job.cfg)]
    cfg = job.cfg.copy()
    if options:
        other = composed(job.command, [str(one.input_line) for one in options]).cfg
        for one in options:
            place = one.package or one.key_or_group.replace("/", ".")
            node = OmegaConf.select(other, place)
            if node is None:
                raise UserError(f"stages: '{one.input_line}' chooses nothing that a stage could have: set single keys")
            OmegaConf.update(cfg, place, node, merge=False, force_add=True)
    OmegaConf.set_struct(cfg, True)
    ConfigLoaderImpl._apply_overrides_to_config([one for one in parsed if one not in options], cfg)
    return cfg, {one.get_key_element().lstrip("+"): str(one.value()) for one in options}


def _chooses(override: Override, cfg: DictConfig) -> bool:
    """Whether an override chooses an option, rather than setting a value."""
    key = override.key_or_group
    if override.package is not None or "/" in key:
        return True
    return "." not in key and not (key in cfg and not OmegaConf.is_dict(cfg[key]))
