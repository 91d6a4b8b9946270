"""The comments of the config files on their keys, which `kdlab VERB --help` and `kdlab help KEY` print."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import yaml

QUIET = ("defaults", "hydra")  # Hydra's own
KEY = re.compile(r"^( *)([\w-]+):(?: |$)")
COLUMN = 29  # of comments, where a line leaves room
COMMENT = re.compile(r"\s#\s*(.*)$")


@cache
def comments(path: Path) -> dict[str, str]:
    """Each key of a file, with dots, and the comment on its line or above it; "" without one."""
    text = path.read_text("utf-8")
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return dict(_read(root, text.splitlines(), "", "")) if isinstance(root, yaml.MappingNode) else {}


def _read(node: yaml.MappingNode, lines: Sequence[str], path: str, above: str) -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        name = str(key.value)
        if name.startswith("_") or (not path and name in QUIET):
            continue
        line, before = lines[key.start_mark.line], lines[key.start_mark.line - 1].strip()
        flow = key.start_mark.line == value.start_mark.line and isinstance(value, yaml.MappingNode) and value.value
        found = COMMENT.search(line)
        comment = found[1].strip() if found else ""
        if not comment and key.start_mark.line > 1 and before.startswith("# ") and key.start_mark.column:
            comment = before[1:].strip()
        comment = comment or above
        yield f"{path}{name}", comment
        if isinstance(value, yaml.MappingNode):
            yield from _read(value, lines, f"{path}{name}.", comment if flow else "")


class Comments:
    """The comments of a composed config.

    Args:
        verb: whose config it is.
        chosen: key of a group, such as ``model@student``, -> the chosen option.
        folders: where configs are searched, the user's own first.
    """

    def __init__(self, verb: str, chosen: Mapping[str, str], folders: Sequence[Path]) -> None:
        self.verb, self.folders = verb, folders
        self.places = sorted(
            ((_place(key), key.split("@")[0], option) for key, option in chosen.items()),
            key=lambda one: -one[0].count("."),
        )

    def of(self, key: str) -> str:
        """The comment on a key, such as ``optimizer.lr``; "" without one."""
        for place, group, option in self.places:
            if key.startswith(f"{place}.") and (comment := self._of_group(group, option, key[len(place) + 1 :])):
                return comment
        for file in self._files(f"{self.verb}.yaml", "base.yaml", "cluster/*.yaml"):
            if comment := comments(file).get(key, ""):
                return comment
        return ""

    def _of_group(self, group: str, option: str, key: str) -> str:
        for file in self._files(f"{group}/{option}.yaml", f"{group}/*.yaml"):
            if comment := comments(file).get(key, ""):
                return comment
        return ""

    def _files(self, *patterns: str) -> Iterator[Path]:
        for pattern in patterns:
            for folder in self.folders:
                yield from sorted(folder.glob(pattern))


def annotated(text: str, comment: Callable[[str], str], width: int = 120) -> str:
    """A YAML text with the comment on each of its keys beside it, wrapped.

    Example:
        >>> print(annotated("a:\\n  b: 1", {"a.b": "how many"}.get))
        a:
          b: 1                       # how many
    """
    lines: list[str] = []
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = KEY.match(line)
        lines.append(line)
        if found is None:
            continue
        indent, name = len(found[1]), found[2]
        path = [(column, key) for column, key in path if column < indent] + [(indent, name)]
        words = comment(".".join(key for _, key in path)) if not name.startswith("_") else ""
        if words and len(line) > width // 2:
            lines[-1:] = [f"{'':<{indent}}# {part}" for part in textwrap.wrap(words, width - indent - 2)] + [line]
        elif words:
            column = max(COLUMN, len(line) + 2)
            room = max(40, width - column - 2)
            head, *rest = textwrap.wrap(words, room, break_on_hyphens=False)
            lines[-1] = f"{line:<{column}}# {head}"
            lines += [f"{'':<{column}}# {part}" for part in rest]
    return "\n".join(lines)


def _place(key: str) -> str:
    group, _, package = key.partition("@")
    return package or group.replace("/", ".")
