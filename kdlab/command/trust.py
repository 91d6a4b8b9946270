"""Which code the config of a stored run may name: runs are handed on, and reading one must not run what is in it.

An evaluation, or a student that takes a run as its teacher, builds that run's model from the config in its directory.
What is named there is only called if an option of an installed config group names it too (kdlab's own, a plugin's, or
those of ``--config-dir``), if the user's own command line does, or if the user allows it with ``trust=[mylab.*]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from kdlab.__main__ import conf
from kdlab.command.option import place
from kdlab.error import UserError
from kdlab.run import read_config

TARGET = re.compile(r"""^[^#\n]*_target_:\s*['"]?([\w.]+)""", re.MULTILINE)


@dataclass(frozen=True)
class Trust:
    """What stored configs may name.

    Attributes:
        own: the targets in the user's own running config.
        patterns: what the user allows besides, such as ``mylab.*``.
        download: whether the user allows what is not in the cache to be fetched; what the stored config says of it
            does not count.
    """

    own: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()
    download: bool = False

    @classmethod
    def of(cls, cfg: DictConfig) -> Trust:
        """What the running command's config allows."""
        plain = OmegaConf.to_container(cfg, resolve=False)
        own = frozenset(target for _, target in targets(plain) if "${" not in target)
        patterns = [cfg.trust] if isinstance(cfg.trust, str) else cfg.trust
        return cls(own, tuple(str(pattern) for pattern in patterns), bool(cfg.download))

    def read(self, folder: Path) -> DictConfig:
        """The config of a run, fit to build its model and data from.

        Raises:
            UserError: it is damaged, or names code that is not allowed.
        """
        config = read_config(folder)
        plain: Any = OmegaConf.to_container(config)
        path = folder / "config.yaml"
        role = "student" if "student" in plain else "model"
        for name in ("task", "datamodule", role):
            if not isinstance(plain.get(name), dict) or not isinstance(plain[name].get("_target_"), str):
                raise UserError(f"{path} does not say what the run's {name} is; restore it or delete the run")
        if not isinstance(plain.get("seed"), int):
            raise UserError(f"{path} has no seed that is a whole number; restore it or delete the run")
        for key, target in targets(plain):
            self._check(key, target, path)
        for name in ("datamodule", role):
            if "download" in plain[name]:
                config[name].download = self.download and not _names_source(plain[name])
        return config

    def _check(self, key: str, target: str, path: Path) -> None:
        if target in self.own or target in offered(_folders()):
            return
        package = target.split(".")[0]
        if any(fnmatchcase(target, pattern) for pattern in self.patterns):
            try:
                home = str(getattr(get_object(target), "__module__", package))
            except Exception as problem:
                raise UserError(f"{path}: {key}={target} cannot be imported: {problem}") from problem
            if home.split(".")[0] == package:  # not mylab.module.os.system
                return
        raise UserError(
            f"{path} has {key}={target}, which no installed option names, so it is not run; if you know it, use "
            f"--config-dir with the option that names it, or trust=[{target}]"
        )


def targets(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every ``_target_`` in nested plain values, with its key."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield f"{key}._target_".lstrip("."), str(value["_target_"])
        for name, item in value.items():
            yield from targets(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from targets(item, f"{key}[{index}]")


@lru_cache
def offered(folders: tuple[Path, ...]) -> frozenset[str]:
    """What the options of the config groups in these folders name."""
    files = (file for folder in folders for file in folder.rglob("*.yaml") if file.parent != folder)
    return frozenset(target for file in files for target in TARGET.findall(file.read_text(encoding="utf-8")))


def _folders() -> tuple[Path, ...]:
    """Where the running command finds its config groups."""
    found = [conf()]
    if HydraConfig.initialized():
        places = [place(source) for source in HydraConfig.get().runtime.config_sources]
        found += [one for one in places if one is not None and one.is_dir()]
    return tuple(dict.fromkeys(found))


def _names_source(value: Any) -> bool:
    """Whether a source distribution is named, which pip runs code of to fetch it."""
    if isinstance(value, dict):
        return any(_names_source(item) for item in value.values())
    return isinstance(value, str) and value.startswith("sdist:")
