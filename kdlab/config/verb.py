"""The verbs, found on disk: each is a root config ``conf/<verb>.yaml`` and a file ``<verb>.py`` with ``main``.

A folder of the user's own adds verbs in the same way: the config lies in the folder of ``--config-dir``, the Python
file in it, beside it, or in the working directory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from kdlab.config import conf
from kdlab.error import UserError
from kdlab.importing import importing

ROOM = "kdlab.command"


@dataclass(frozen=True)
class Verb:
    """A command.

    Attributes:
        name: how it is called.
        about: the first comment of its config.
        module: the dotted name of the module with its ``main``.
        file: of that module.
        composed: whether ``main`` is given the composed config. A config without any key asks for the words of the
            command line as they are.
        trains: whether there is a training rule to choose.
    """

    name: str
    about: str
    module: str
    file: Path
    composed: bool
    trains: bool

    def load(self) -> ModuleType:
        """Its module.

        Raises:
            UserError: another module has the same name, or it has no ``main``.
        """
        with importing():
            module = import_module(self.module)
        if Path(str(module.__file__)).resolve() != self.file.resolve():
            raise UserError(
                f"`kdlab {self.name}` is {self.file}, but the module '{self.module}' is {module.__file__}: give the "
                "command and its two files another name"
            )
        if not callable(getattr(module, "main", None)):
            raise UserError(f"{self.file} has no function main(cfg), which `kdlab {self.name}` calls: add it")
        return module


def verbs(own: Sequence[Path] = ()) -> dict[str, Verb]:
    """All verbs by name; those that train come first, those of the user's own folders last.

    Args:
        own: folders of the user's own config groups. A verb of kdlab's wins over one of the same name in these.
    """
    room = Path(__file__).parents[1] / "command"
    found = _in_folder(conf(), [room], f"{ROOM}.")
    for folder in own:
        found = _in_folder(folder, code_places(folder), "") | found

    def order(verb: Verb) -> tuple[bool, bool, str]:
        return not verb.module.startswith(ROOM), not verb.trains, verb.name

    return {verb.name: verb for verb in sorted(found.values(), key=order)}


@cache
def training() -> tuple[str, ...]:
    """The names of kdlab's own verbs that train: their runs are trained models.

    Example:
        >>> training()
        ('distill', 'finetune')
    """
    return tuple(name for name, verb in verbs().items() if verb.trains)


def code_places(folder: Path) -> list[Path]:
    """Where the code of a folder of the user's own options may lie."""
    return [folder, folder.parent, Path.cwd()]


def _in_folder(folder: Path, places: Sequence[Path], package: str) -> dict[str, Verb]:
    found = {}
    for config in sorted(folder.glob("*.yaml")):
        name = config.stem
        file = next((file for place in places if (file := place / f"{name}.py").is_file()), None)
        if file is None or not name.isidentifier():
            continue
        text = config.read_text("utf-8", "replace")
        about = next((line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")), "")
        keys = any(line.strip() and not line.startswith("#") for line in text.splitlines())
        trains = re.search(r"^ *- (override )?/?module: ", text, re.M) is not None
        found[name] = Verb(name, about.rstrip("."), f"{package}{name}", file, keys, trains)
    return found
