"""Which code the config of a stored run may name: runs are handed on, and reading one must not run what is in it.

An evaluation, or a student that takes a run as its teacher, builds that run's model from the config in its directory.
Only the parts that a model and its data are built of are read at all: the task, the data set, the model, and what was
added to it. What such a part names is only called if an option of the config group **of that place** names it too
(kdlab's own, a plugin's, or those of ``--config-dir``), if the user's own config names it in the same place, or if
the user allows it with ``trust=[mylab.*]``. Whether anything is downloaded is the user's choice alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from kdlab.config import conf
from kdlab.config.option import place
from kdlab.config.stored import read_config
from kdlab.error import UserError
from kdlab.fetch import in_cache

PARTS = {  # of a run's config -> their config group
    "task": "task", "datamodule": "datamodule", "student": "model", "model": "model", "peft": "peft",
    "transform": "transform", "metric": "metric",
}  # fmt: skip
LAYERS, NUMBER = 2048, 2**31  # the most layers, and the largest number, that a stored config may ask for


@dataclass(frozen=True)
class Trust:
    """What stored configs may name.

    Attributes:
        own: place -> the targets in the user's own running config, such as ``task.head`` -> ``mylab.head``.
        patterns: targets that the user allows besides, such as ``mylab.*``.
        download: whether the user allows what is not in the cache to be fetched; the stored config has no say.
    """

    own: dict[str, frozenset[str]] = field(default_factory=dict)
    patterns: tuple[str, ...] = ()
    download: bool = False

    @classmethod
    def of(cls, cfg: DictConfig) -> Trust:
        """What the running command's config allows."""
        plain = OmegaConf.to_container(cfg, resolve=False)
        own: dict[str, frozenset[str]] = {}
        for key, target in targets(plain):
            if "${" not in target:
                where = _canonical(key)
                own[where] = own.get(where, frozenset()) | {target}
        patterns = [cfg.trust] if isinstance(cfg.trust, str) else cfg.trust
        return cls(own, tuple(str(pattern) for pattern in patterns), bool(cfg.download))

    def read(self, folder: Path, *more: str) -> DictConfig:
        """The parts of a run's config that its model and data are built from, and its seed.

        Args:
            more: further parts, such as ``metric``.

        Raises:
            UserError: it is damaged, names code that is not allowed, or asks for more than any model has.
        """
        config = read_config(folder)
        plain: Any = OmegaConf.to_container(config)
        path = folder / "config.yaml"
        role = "student" if "student" in plain else "model"
        for name in ("task", "datamodule", role):
            if not isinstance(plain.get(name), dict) or not isinstance(plain[name].get("_target_"), str):
                raise UserError(f"{path} does not say what the run's {name} is; restore it or delete the run")
        seed = plain.get("seed")
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise UserError(
                f"{path} has no seed that is a whole number from 0 to 2^32 - 1; restore it or delete the run"
            )
        kept = {name: plain[name] for name in ("task", "datamodule", role, "peft", "transform", *more) if name in plain}
        for key, target in sorted(targets(kept), key=lambda named: named[0].count(".")):  # the outermost is named
            self._check(key, target, path)
        for key, value in _leaves(kept):
            _bounded(key, value, path)
        return OmegaConf.create(_permitted(kept, self.download) | {"seed": seed})

    def _check(self, key: str, target: str, path: Path) -> None:
        where = _canonical(key)
        if target in self.own.get(where, ()) or target in allowed(where, _folders()):
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
            f"{path} has {key}={target}, which no installed option names, so it is not run: no option of the group "
            f"'{where.replace('.', '/')}' does; if you know it, use --config-dir with the option that names it, or "
            f"trust=[{target}]"
        )


def targets(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every ``_target_`` in nested plain values, with its key."""
    for name, item in _leaves(value, key):
        if name.split(".")[-1] == "_target_":
            yield name, str(item)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings and lists that is neither, with its key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{key}[{index}]")
    else:
        yield key, value


def _canonical(key: str) -> str:
    """The place that a ``_target_`` stands in, with the name of the config group in front: ``model.inner``."""
    first, *rest = key.split(".")[:-1] or [""]
    if first == "teacher" and rest[-1:] == ["model"]:
        return "model"
    return ".".join([PARTS.get(first, first), *rest])


@lru_cache
def allowed(where: str, folders: tuple[Path, ...]) -> frozenset[str]:
    """The targets that the installed options name for a place, such as ``task.head`` or ``model.inner``.

    Args:
        where: the name of a top group, and the keys below it.
        folders: those of the config groups.
    """
    first, *rest = where.split(".")
    groups, found = {first}, frozenset[str]()
    for depth in range(len(rest) + 1):
        options = [option for group in sorted(groups) for option in _options(group, folders)]
        below = ".".join([*rest[depth:], "_target_"])
        found |= {target for option in options for key, target in targets(option) if key == below}
        if depth < len(rest):
            name = rest[depth]
            inner = {f"{group}/{name}" for group in groups}
            groups = inner | {group for option in options for group, package in _mounts(option) if package == name}
    return found


@lru_cache
def _options(group: str, folders: tuple[Path, ...]) -> tuple[dict[str, Any], ...]:
    """The options of a group, as plain values."""
    files = [file for folder in folders for file in sorted((folder / group).glob("*.yaml"))]
    read = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)
    return tuple(option for option in read if isinstance(option, dict))


def _mounts(option: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The groups that an option's defaults put into places of their own: ``/model@inner`` -> (``model``, ``inner``)."""
    for entry in option.get("defaults") or []:
        for key in entry if isinstance(entry, dict) else ():
            group, _, package = re.sub(r"^(override|optional)\s+", "", str(key)).partition("@")
            if package:
                yield group.lstrip("/"), package


def _folders() -> tuple[Path, ...]:
    """Where the running command finds its config groups."""
    found = [conf()]
    if HydraConfig.initialized():
        places = [place(source) for source in HydraConfig.get().runtime.config_sources]
        found += [one for one in places if one is not None and one.is_dir()]
    return tuple(dict.fromkeys(found))


def _bounded(key: str, value: Any, path: Path) -> None:
    """Refuse what no run has: code's own arguments, numbers beyond any model, and packages that must be built."""
    name = key.split(".")[-1].split("[")[0]
    if re.search(r"(^|\.)_args_($|[.\[])", key):
        raise UserError(f"{path} has {key}, which no option has, so it is not read; restore the file or delete the run")
    most = LAYERS if name in ("layers", "num_hidden_layers") else NUMBER
    if isinstance(value, int | float) and not abs(value) <= most:
        raise UserError(f"{path} has {key}={value}, which is more than {most}; restore the file or delete the run")
    if isinstance(value, str) and value.startswith("sdist:") and not in_cache(value):
        raise UserError(
            f"{path} names the source distribution {value}, which is not in the cache: building one runs code of it, "
            "which a stored run cannot ask for; fetch it with a command of your own that names it and download=true"
        )


def _permitted(value: Any, download: bool) -> Any:
    """The same nested values with every ``download`` as the user has it."""
    if isinstance(value, dict):
        return {name: download if name == "download" else _permitted(item, download) for name, item in value.items()}
    return [_permitted(item, download) for item in value] if isinstance(value, list) else value
