"""`kdlab VERB --help`: the groups of a verb with their options, and the config that the verb composes.

Hydra's own help lists the groups of all verbs, and copies its whole store of configs once a group, which takes longer
than all the rest of the command.
"""

from __future__ import annotations

import argparse
import string
import textwrap
from pathlib import Path
from typing import NoReturn

from kdlab.config.option import Menu, menu
from kdlab.help.comment import Comments, annotated


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def page(verb: str, conf: Path, arguments: list[str]) -> str | None:
    """The help of a verb; None where the arguments ask for more than is known here, so that Hydra must answer.

    Args:
        conf: the folder with the verbs' configs.
        arguments: the command line after the verb.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--config-name", "-cn", default=verb)
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("overrides", nargs="*")
    try:
        asked = parser.parse_intermixed_args(arguments)
    except ValueError:
        return None
    searched = any(word.startswith("hydra.searchpath") for word in asked.overrides)
    if asked.config_dir and (searched or not asked.config_dir.is_dir()):
        return None
    offer = menu(conf, asked.config_name, asked.overrides, asked.config_dir)
    folders = [folder for folder in (asked.config_dir, conf) if folder]
    comments = Comments(asked.config_name, offer.chosen, folders)
    return string.Template(offer.cfg.hydra.help.template).safe_substitute(
        APP_CONFIG_GROUPS=_listed(offer),
        CONFIG=annotated(offer.text(asked.resolve), comments.of),
    )


def _listed(offer: Menu) -> str:
    lines = [_line(key, chosen, offer.of(key)) for key, chosen in offer.chosen.items()]
    if offer.more:
        first = offer.more[0]
        such = "schedule@loss.alpha=linear" if "schedule" in offer.more else f"{first}={offer.of(first)[0]}"
        lines += ["", f"Add to a config with +GROUP@KEY=OPTION, such as +{such}:"]
        lines += [_line(group, "", offer.of(group)) for group in offer.more]
    return "\n".join(lines) or "  none"


def _line(key: str, chosen: str, options: list[str]) -> str:
    words = [f"[{chosen}]"] * bool(chosen) + [option for option in options if option != chosen]
    hang = " " * 29
    return textwrap.fill(f"  {key:<26} {', '.join(words)}", 120, subsequent_indent=hang, break_on_hyphens=False)
