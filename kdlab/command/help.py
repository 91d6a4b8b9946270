"""`kdlab VERB --help`: the groups of a verb with their options, and the config that the verb composes.

Hydra's own help lists the groups of all verbs, and copies its whole store of configs once a group, which takes longer
than all the rest of the command.
"""

from __future__ import annotations

import argparse
import string
import textwrap
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlparse

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise ValueError(message)


def page(verb: str, conf: Path, arguments: list[str]) -> str | None:
    """The help of a verb; None where the arguments ask for more than is known here, so that Hydra must answer.

    Args:
        conf: the folder with the verbs' configs.
        arguments: the command line after the verb.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--config-name", "-cn", default=verb)
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("overrides", nargs="*")
    try:
        asked = parser.parse_intermixed_args(arguments)
    except ValueError:
        return None
    overrides = list(asked.overrides)
    if asked.config_dir:
        if not Path(asked.config_dir).is_dir() or any(word.startswith("hydra.searchpath") for word in overrides):
            return None
        overrides.append(f"hydra.searchpath=['{Path(asked.config_dir).absolute().as_uri()}']")
    with initialize_config_dir(str(conf), version_base="1.3"):
        cfg = compose(asked.config_name, overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    shown = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    shown._set_parent(cfg if asked.resolve else None)
    return string.Template(cfg.hydra.help.template).safe_substitute(
        APP_CONFIG_GROUPS=_listed(cfg, conf), CONFIG=OmegaConf.to_yaml(shown, resolve=asked.resolve).rstrip()
    )


def _listed(cfg: DictConfig, conf: Path) -> str:
    """The verb's groups, the chosen option first, then those that a config can be given more of."""
    every = groups([folder for source in cfg.hydra.runtime.config_sources if (folder := _folder(source)) is not None])
    choices = {str(key): str(name or "null") for key, name in cfg.hydra.runtime.choices.items()}
    lists = {key: "" for key in _defaults(conf / f"{cfg.hydra.job.config_name}.yaml") if key in every}
    chosen = {key: name for key, name in (lists | choices).items() if key.split("@")[0] in every}
    mine = {key.split("@")[0] for key in chosen}
    elsewhere = {_top(key) for path in conf.glob("*.yaml") for key in _defaults(path)}
    free = {group for group in every if _top(group) not in elsewhere} if "module" in mine else set()  # it trains
    more = free | {group for group in every if "/" in group and _top(group) in mine and group not in chosen}
    lines = [_line(key, chosen[key], every[key.split("@")[0]]) for key in sorted(chosen)]
    if more:
        lines += ["", "Add to a config with +GROUP@KEY=OPTION, such as +schedule@loss.alpha=linear:"]
        lines += [_line(group, "", every[group]) for group in sorted(more)]
    return "\n".join(lines) or "  none"


def _line(key: str, chosen: str, options: list[str]) -> str:
    words = [f"[{chosen}]"] * bool(chosen) + [option for option in options if option != chosen]
    hang = " " * 29
    return textwrap.fill(f"  {key:<26} {', '.join(words)}", 120, subsequent_indent=hang, break_on_hyphens=False)


def groups(folders: list[Path]) -> dict[str, list[str]]:
    """Group -> options, over all folders that the config is searched in."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group != "." and _top(group) != "hydra":
                found.setdefault(group, set()).add(file.stem)
    return {group: sorted(options) for group, options in found.items()}


def _folder(source: DictConfig) -> Path | None:
    """Where a source of configs keeps its files; None for Hydra's own and for those that are no files."""
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
