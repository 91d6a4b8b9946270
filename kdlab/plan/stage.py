"""Runs made of several stages: each starts from the student of the one before, and each is a run of its own.

So a finished stage is not done again, a killed one goes on from its checkpoint, and jobs of a sweep that have a stage
in common do it once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from kdlab.artifact.find import suit
from kdlab.artifact.run import read_done
from kdlab.artifact.trained import Trained, named
from kdlab.config.identity import named as run_name
from kdlab.config.job import Job, composed
from kdlab.config.trust import Trust
from kdlab.error import UserError
from kdlab.model.save import tokenizer_fingerprint


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


def begin(job: Job, student: nn.Module, data: Any, run: Callable[[Job], Any]) -> Trained | None:
    """Give the model that learns the weights that the run starts from, if it starts from any; who has them.

    Args:
        run: carries out a stage that is not done.

    Raises:
        UserError: they are those of another model.
    """
    cfg = job.cfg
    with torch.random.fork_rng(devices=[]):  # found or trained, a stage leaves the others' first weights alone
        stages = earlier(job)
        for one in stages:
            if read_done(one.folder) is None:
                run(one)
    start = stages[-1].folder.name if stages else cfg.start
    if start is None:
        return None
    found = named(str(start), Path(cfg.outputs), Trust.of(cfg), "start")
    remedy = "start from a run with the same student and data, or drop start"
    if found.labels is not None and sorted(found.labels) == sorted(data.labels):
        suit(found, data.labels)
    if found.labels not in (None, list(data.labels)):
        raise UserError(f"start={found.id} knows the labels {found.labels}, the data has {list(data.labels)}: {remedy}")
    if tokenizer_fingerprint(found.tokenizer) != tokenizer_fingerprint(data.tokenizer):
        raise UserError(f"start={found.id} has another tokenizer than the student: {remedy}")
    try:
        student.load_state_dict(found.model.state_dict())
    except RuntimeError as problem:
        reason = " ".join(str(problem).split())[:200]
        raise UserError(f"start={found.id} is another model than the student ({reason}): {remedy}") from problem
    return found
