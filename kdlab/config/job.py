"""What Hydra knows of one job: where it writes, which options were chosen, what was overridden."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

import kdlab.config.overriding
import kdlab.config.tokens  # noqa: F401  registers the resolver of a teacher's tokenizer
from kdlab.config.identity import OPEN_DATA, data_name, named
from kdlab.config.option import search
from kdlab.error import UserError
from kdlab.secret import masked

SWEEP = "KDLAB_SWEEP"  # names the multirun that a job belongs to, in the environment that all its workers inherit
SWEPT = "KDLAB_SWEPT"  # the keys that the multirun varies, with a space between

_composed: WeakKeyDictionary[Any, dict[tuple[str, ...], DictConfig]] = WeakKeyDictionary()  # by what loads configs


@dataclass(frozen=True)
class Job:
    """One job of one command.

    Attributes:
        command: the verb.
        folder: the run directory.
        cfg: the composed config.
        choices: group -> name of the selected option.
        overrides: the job's command line.
        sweep: name and number within a multirun and the keys that it varies, or None.
    """

    command: str
    folder: Path
    cfg: DictConfig
    choices: dict[str, str]
    overrides: list[str]
    sweep: dict[str, Any] | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain data without secrets, with the names of the selected options."""
        try:
            plain: Any = OmegaConf.to_container(self.cfg, resolve=True, throw_on_missing=False)
        except Exception as problem:
            raise UserError(" ".join(str(problem).split())) from problem
        names = {group.split("@")[-1].replace("/", "_").replace(".", "_"): name for group, name in self.choices.items()}
        known = {"command": self.command, "group": self.group, "choice": names}
        return masked({str(key): value for key, value in plain.items()}) | known

    @property
    def group(self) -> str:
        """What the runs of a comparison share: the ``group`` key, else the experiment, else the data set."""
        return group_of(self.cfg, self.choices, self.command)

    @property
    def name(self) -> str:
        """What sets the job apart: the overrides that its sweep varies; outside a sweep, all that say what it does."""
        swept = self.sweep["swept"] if self.sweep else []
        common = ("experiment", "group", "outputs", "download", "rerun", "logger", "cluster", "hydra", "check", "trust")
        words = [word for word in self.overrides if word.split("=")[0] in swept]
        return ",".join(
            masked(word)
            for word in words or [word for word in self.overrides if not word.lstrip("+~").startswith(common)]
        )

    @property
    def tags(self) -> list[str]:
        return [self.choices[group] for group in ("experiment", "datamodule") if group in self.choices]


def group_of(cfg: DictConfig, choices: Mapping[str, Any], command: str) -> str:
    """The ``group`` key, else the experiment, else the name of the data."""
    named = {key: OmegaConf.select(cfg, f"datamodule.{key}", default=None) for key in OPEN_DATA.values()}
    return cfg.group or choices.get("experiment") or data_name(choices, {"datamodule": named}) or command


def current(command: str, cfg: DictConfig) -> Job:
    """The job that Hydra is running in this process."""
    hydra = HydraConfig.get()
    sweep = None
    if hydra.mode == RunMode.MULTIRUN:
        sweep = {"sweep": os.environ.get(SWEEP, ""), "job": hydra.job.num, "swept": os.environ.get(SWEPT, "").split()}
    choices = _chosen(hydra.runtime.choices)
    return Job(command, Path(hydra.runtime.output_dir), cfg, choices, list(hydra.overrides.task), sweep)


def composed(command: str, overrides: list[str], **nodes: Mapping[str, Any]) -> Job:
    """Another command's job, composed inside a running one; what ``nodes`` have replaces what the overrides composed.

    Args:
        nodes: a config node takes the place of the composed one, plain values that of its values.
    """
    from hydra import compose

    overrides = [*overrides, *search()]
    known = _composed.setdefault(GlobalHydra.instance().config_loader(), {})
    words = (command, *overrides)
    if words not in known:  # the points of a sweep mostly share their teacher's recipe
        known[words] = compose(config_name=command, overrides=overrides, return_hydra_config=True)
    cfg = known[words].copy()
    for name, node in nodes.items():
        if isinstance(node, DictConfig):
            cfg[name] = node
            continue
        with open_dict(cfg[name]):
            for key, value in node.items():
                cfg[name][key] = value
    return described(command, cfg, overrides)


def described(command: str, cfg: DictConfig, overrides: list[str]) -> Job:
    """The job of a composed config, with Hydra's own node still in it."""
    plain = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return chosen(command, plain, cfg.hydra.runtime.choices, overrides)


def chosen(command: str, cfg: DictConfig, choices: Mapping[Any, Any], overrides: list[str]) -> Job:
    """The job of a config without Hydra's own node, given the options that it was composed of."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return Job(command, Path(cfg.outputs) / command / named(choices, config), cfg, _chosen(choices), overrides)


def _chosen(choices: Mapping[Any, Any]) -> dict[str, str]:
    return {str(k): str(v) for k, v in choices.items() if v not in (None, "null") and not str(k).startswith("hydra/")}
