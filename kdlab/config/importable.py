"""A user's own code: which folders its modules are imported from.

Options of one's own name classes in modules of one's own. These are looked for in the folder of ``--config-dir``, in
the one that holds it, and in the working directory, but only in a folder that has a module which the user's own options
or command line name: a stored run, or a file that merely lies in the working directory, brings no folder in.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

from kdlab import OWN, extend
from kdlab.config.verb import code_places, verbs

CONFIG_DIR = ("--config-dir", "-cd")
TARGET = re.compile(r"""_target_\s*[:=]\s*['"]?([A-Za-z_]\w*)\.""")
TRUSTED = re.compile(r"([A-Za-z_]\w*)\.[\w.*?]+")


def importable(arguments: Sequence[str]) -> list[Path]:
    """Let the modules that a command line's own options name be imported, here and in all jobs that it starts.

    Installed modules come first: nothing in these folders can stand in for them.

    Args:
        arguments: the command line after the verb.

    Returns:
        The folders.
    """
    own = [*config_dirs(arguments), *_searched(arguments)]
    names = {name for word in arguments for name in TARGET.findall(word)}
    names |= {name for word in arguments if word.startswith("trust=") for name in TRUSTED.findall(word)}
    for folder in own:
        for file in folder.rglob("*.yaml"):
            names |= set(TARGET.findall(file.read_text("utf-8", "replace")))
    names |= {verb.module for verb in verbs(own).values() if not verb.module.startswith("kdlab.")}
    places = [place for folder in own for place in code_places(folder)] + [Path.cwd()]
    found = []
    for folder in dict.fromkeys(place.resolve() for place in places):
        here = [name for name in sorted(names) if (folder / f"{name}.py").is_file() or (folder / name).is_dir()]
        if str(folder) not in sys.path and any(_missing(name) for name in here):
            found.append(folder)
    if found:
        known = [place for place in os.environ.get(OWN, "").split(os.pathsep) if place]
        os.environ[OWN] = os.pathsep.join(dict.fromkeys([*known, *map(str, found)]))
        extend()
    return found


def _missing(name: str) -> bool:
    try:
        return find_spec(name) is None
    except (ImportError, ValueError):
        return True


def config_dirs(arguments: Sequence[str]) -> Iterator[Path]:
    """The folders of the user's own options that ``--config-dir`` names."""
    for before, word in zip(["", *arguments], arguments, strict=False):
        flag, equals, value = word.partition("=")
        if before in CONFIG_DIR:
            yield Path(word).expanduser()
        elif flag in CONFIG_DIR and equals:
            yield Path(value).expanduser()


def _searched(arguments: Sequence[str]) -> Iterator[Path]:
    for word in arguments:
        flag, _, value = word.partition("=")
        if flag == "hydra.searchpath":
            yield from (Path(unquote(place)) for place in re.findall(r"file://([^'\",\]\s]+)", value))


def is_base(file: Path) -> bool:
    """Whether an option is one that others derive from: what it builds is left open."""
    return "\n_target_: ???" in file.read_text("utf-8")
