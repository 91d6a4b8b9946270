"""What a verb offers: its config groups, their options, and what is chosen; for its help and for tab completion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import kdlab.config.overriding  # noqa: F401  an option may choose options of other groups
from kdlab.config.importable import is_base


@dataclass(frozen=True)
class Menu:
    """The groups of a verb.

    Attributes:
        cfg: the composed config, with Hydra's own node.
        options: group -> names of its options.
        chosen: key of a group on the command line, such as ``model@student``, -> the chosen option; "" for a list.
        more: groups that a config can be given more of: ``+schedule@loss.alpha=linear``.
    """

    cfg: DictConfig
    options: dict[str, list[str]]
    chosen: dict[str, str]
    more: list[str]

    def of(self, key: str) -> list[str]:
        """The options that the key of a group can be given."""
        return self.options.get(key.split("@")[0], [])

    def text(self, resolve: bool = False) -> str:
        """The config as YAML, without Hydra's own node; from now on it is the one that resolvers see."""
        HydraConfig.instance().set_config(self.cfg)
        shown = OmegaConf.masked_copy(self.cfg, [str(key) for key in self.cfg if key != "hydra"])
        return OmegaConf.to_yaml(shown, resolve=resolve).rstrip()


@contextmanager
def composing(conf: Path, own: Path | None = None) -> Iterator[Any]:
    """Let Hydra compose outside of a job; gives what loads its configs.

    Args:
        conf: the folder with the verbs' configs.
        own: a folder with the user's own groups and verbs, as ``--config-dir`` takes it.
    """
    with initialize_config_dir(str(conf), version_base="1.3"):
        if own is not None:
            places = create_config_search_path(str(conf))
            places.prepend("command-line", own.absolute().as_uri(), SearchPathQuery(provider="schema"))
            GlobalHydra.instance().clear()
            Hydra.create_main_hydra2("kdlab", places)
        yield GlobalHydra.instance().config_loader()


def menu(conf: Path, name: str, overrides: list[str], own: Path | None = None) -> Menu:
    """Compose a config and see what could have been chosen instead.

    Args:
        conf: the folder with the verbs' configs.
        name: the verb, or another config beside it.
        own: a folder with the user's own groups, as ``--config-dir`` takes it.
    """
    with composing(conf, own):
        cfg = compose(name, overrides, return_hydra_config=True)
    folders = [folder for source in cfg.hydra.runtime.config_sources if (folder := place(source)) is not None]
    options = groups(folders)
    choices = {str(key): str(option or "null") for key, option in cfg.hydra.runtime.choices.items()}
    lists = dict.fromkeys(_defaults(conf / f"{name}.yaml"), "")
    chosen = {key: option for key, option in (lists | choices).items() if key.split("@")[0] in options}
    tops = {_top(key) for key in chosen}
    elsewhere = {_top(key) for path in conf.glob("*.yaml") for key in _defaults(path)}
    free = [group for group in options if "module" in tops and _top(group) not in elsewhere]  # only a verb that trains
    below = [group for group in options if "/" in group and _top(group) in tops and group not in chosen]
    return Menu(cfg, options, dict(sorted(chosen.items())), sorted({*free, *below}))


def roots(conf: Path, name: str) -> set[str]:
    """The keys at the top of a verb's config: its own, and those where its groups are put."""
    found = set()
    for file in [f"{name}.yaml", *["base.yaml"] * ("module" in _defaults(conf / f"{name}.yaml"))]:
        node = yaml.safe_load((conf / file).read_text("utf-8")) if (conf / file).is_file() else {}
        found |= {str(key) for key in node if key != "defaults"}
        found |= {(key.partition("@")[2] or _top(key)).split(".")[0] for key in _defaults(conf / file)}
    return found


def groups(folders: list[Path]) -> dict[str, list[str]]:
    """Group -> options that can be chosen, over all folders that configs are searched in."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group != "." and _top(group) != "hydra" and not is_base(file):
                found.setdefault(group, set()).add(file.stem)
    return {group: sorted(options) for group, options in found.items()}


def place(source: Any) -> Path | None:
    """Where a source of configs keeps its files; None for Hydra's own, and for those that are no files."""
    if source.provider == "hydra":
        return None
    if source.schema == "file":
        return Path(unquote(urlparse(source.path).path) if source.path.startswith("file:") else source.path)
    return Path(str(files(source.path))) if source.schema == "pkg" else None


def _defaults(root: Path) -> list[str]:
    """The groups that a verb's config chooses from."""
    entries = (yaml.safe_load(root.read_text(encoding="utf-8")) or {}).get("defaults", []) if root.is_file() else []
    keys = [key for entry in entries if isinstance(entry, dict) for key in entry]
    return [key for key in keys if not key.startswith("override ")]


def _top(key: str) -> str:
    return key.split("@")[0].split("/")[0]


def search() -> list[str]:
    """What lets another command find the options of the user's own, such as in a package."""
    if not HydraConfig.initialized() or not HydraConfig.get().searchpath:
        return []
    places = ",".join(f"'{place}'" for place in HydraConfig.get().searchpath)
    return [f"hydra.searchpath=[{places}]"]
