"""What a config has at the cursor of a command line that is being typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from kdlab.config.option import Menu, menu


def menu_so_far(verb: str, words: list[str], conf: Path) -> Menu:
    """The verb's menu with what is on the command line so far, as far as that can be composed."""
    parser, single, own = OverridesParser.create(), [], None
    for before, word in zip([verb, *words], words, strict=False):
        if before in ("--config-dir", "-cd"):
            own = Path(word).expanduser()
        elif not word.startswith("-"):
            try:
                single += [word] if not parser.parse_override(word).is_sweep_override() else []
            except Exception:
                continue  # such as an open quote
    try:
        return menu(conf, verb, single, own)
    except Exception:
        return menu(conf, verb, [])


def keys_at(cfg: Any, word: str) -> list[str]:
    """The keys that begin with a word; one level of the config, with a dot where there are more below."""
    parent, dot, last = word.rpartition(".")
    try:
        node = OmegaConf.select(cfg, parent) if parent else cfg
    except Exception:
        return []
    if not isinstance(node, DictConfig):
        return []
    names = [str(name) for name in node if str(name).startswith(last) and (parent or name != "hydra" or last)]
    return [f"{parent}{dot}{name}" + ("." if isinstance(node._get_node(name), DictConfig) else "=") for name in names]


def value_at(cfg: Any, key: str, value: str) -> list[str]:
    """The present value of a key, for who wants to change only a part of it."""
    try:
        found = OmegaConf.select(cfg, key)
    except Exception:
        return []
    if found is None or OmegaConf.is_config(found):
        return ["null"] if found is None and not value else []
    text = str(found).lower() if isinstance(found, bool) else str(found)
    choices = ("true", "false") if isinstance(found, bool) else (text,)
    return [choice for choice in choices if choice.startswith(value)]
