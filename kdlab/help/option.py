"""What is known of an option, from its YAML and its code, which are read as text: nothing is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kdlab.config.signature import file as _file
from kdlab.config.signature import tree

PARTS = ("Formula", "When", "Cost", "Source")


@dataclass(frozen=True)
class Page:
    """An option.

    Attributes:
        about: the first comment of its YAML; of an experiment, the first sentence.
        family: for a term of a loss, the folder of its code, else "".
        parts: of the docstring, by name: ``what``, those of :data:`PARTS`, and ``Args``; those that are there.
        settings: the YAML without comments of its own and without its choices, as lines.
        inherited: the settings of the options that it derives from, by option, nearest first.
        chooses: the options of other groups that it chooses, as they are typed, each with those that it chooses itself.
        notes: its further comments.
        commands: for an experiment, the commands in its comments.
        terms: for a recipe of ``loss``, name -> option of ``loss/term``.
    """

    group: str
    option: str
    about: str
    family: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)
    inherited: dict[str, list[str]] = field(default_factory=dict)
    chooses: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    terms: dict[str, str] = field(default_factory=dict)


def page(group: str, option: str, folders: Sequence[Path]) -> Page:
    """What is known of an option."""
    text = place(group, option, folders).read_text("utf-8")
    node = yaml.safe_load(text) or {}
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("# ") and "@package" not in line]
    settings = _settings(text)
    entries = [entry for entry in node.get("defaults", []) if isinstance(entry, dict)]
    terms = {
        key.rpartition(".")[2]: str(name) for entry in entries for key, name in entry.items() if key.startswith("term@")
    }
    chooses = {
        word: [more for more, _, _ in _chosen(other, name, folders)]
        for word, other, name in _chosen(group, option, folders)
    }
    target = str(node.get("_target_", ""))
    family = target.split(".")[-3] if group == "loss/term" else ""
    commands = [line for line in comments if line.startswith("kdlab ")]
    about, *notes = [line for line in comments if line not in commands] or [""]
    if commands:  # an experiment's comment is a text of several lines
        about, stop, rest = " ".join([about, *notes]).partition(". ")
        about, notes = about + stop.rstrip(), [rest] if rest else []
    inherited = dict(_inherited(group, node, settings, folders))
    parts = documented(target, folders)
    return Page(group, option, about, family, parts, settings, inherited, chooses, notes, commands, terms)


def _chosen(group: str, option: str | list[str], folders: Sequence[Path]) -> Iterator[tuple[str, str, str | list[str]]]:
    """The options of other groups that an option chooses: as it is typed, the group and the option.

    Args:
        option: its name; a list of them, which no command reads here, chooses nothing.
    """
    if not isinstance(option, str) or option not in options(group, folders):
        return
    node = yaml.safe_load(place(group, option, folders).read_text("utf-8")) or {}
    for entry in node.get("defaults", []):
        for key, name in entry.items() if isinstance(entry, dict) else ():
            if key.startswith("override "):
                typed = typed_key(key.removeprefix("override "))
                words = f"[{','.join(name)}]" if isinstance(name, list) else name
                yield f"{typed}={words}", typed.partition("@")[0], name


def typed_key(key: str) -> str:
    """A group in the defaults of an option, as it is typed.

    Example:
        >>> typed_key("/task@_global_.task"), typed_key("/model@_global_.teacher.model"), typed_key("/loss")
        ('task', 'model@teacher.model', 'loss')
    """
    group, _, package = key.lstrip("/").partition("@")
    package = package.removeprefix("_global_").lstrip(".")
    return group if package in ("", group.replace("/", ".")) else f"{group}@{package}"


def _settings(text: str) -> list[str]:
    """The lines of a YAML, without its comments of a whole line, its defaults and its target."""
    block = re.sub(r"^defaults:.*\n(?:[ \t-].*\n?)*", "", text, flags=re.M)
    return [line for line in block.splitlines() if line and not line.startswith(("#", "_target_", "_partial_", "{}"))]


def _inherited(
    group: str, node: dict[str, Any], settings: Sequence[str], folders: Sequence[Path]
) -> Iterator[tuple[str, list[str]]]:
    """The settings that an option takes over from others of its group, which its defaults name, nearest first."""
    taken = {line.partition(":")[0] for line in settings}
    bases = [entry for entry in node.get("defaults", []) if isinstance(entry, str) and entry in options(group, folders)]
    for base in reversed(bases):
        text = place(group, base, folders).read_text("utf-8")
        others = [line for line in _settings(text) if line.partition(":")[0] not in taken]
        yield base, others
        yield from _inherited(group, yaml.safe_load(text) or {}, [*settings, *others], folders)


def documented(target: str, folders: Sequence[Path] = ()) -> dict[str, str]:
    """The parts of the docstring of a class or function that is named by its dotted path, without importing it.

    A ``Source:`` that the class lacks is that of the first function in its module that has one.
    """
    module, _, name = target.rpartition(".")
    path = _file(module, folders)
    if path is None:
        return {}
    body = tree(path).body
    named = {node.name: node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    if name not in named:
        return {}
    own = ast.get_docstring(named[name]) or ""
    parts = split(own)
    for other in dict.fromkeys(re.findall(r":func:`(\w+)`", own.partition("Args:")[0])):
        if other in named and other != name:
            summary = split(ast.get_docstring(named[other]) or "").get("what", "").split("\n\n")[0]
            parts["what"] += f"\n\n{other}: {summary}"
    if isinstance(named[name], ast.ClassDef) and "Source" not in parts:
        functions = (split(ast.get_docstring(node) or "") for node in body if isinstance(node, ast.FunctionDef))
        parts |= next(({"Source": found["Source"]} for found in functions if "Source" in found), {})
    return parts


def split(docstring: str) -> dict[str, str]:
    """A docstring's parts: ``what`` is all before the first of them; markup of references is taken off."""
    found: dict[str, list[str]] = {"what": []}
    current = "what"
    for line in docstring.splitlines():
        start = re.match(r"([A-Z][a-z]+):(?:\s+(.*)|$)", line)
        if start and (start[1] in PARTS or not start[2]):
            current = start[1]
            found[current] = [start[2] or ""]
        else:
            found[current].append(line)
    texts = {name: "\n".join(lines).strip("\n") for name, lines in found.items()}
    texts = {
        name: re.sub(r":\w+:`~?([^`<]+?)(?: <[^`]*>)?`", lambda match: match[1].rpartition(".")[2], text)
        for name, text in texts.items()
    }
    return {name: text.replace("``", "") for name, text in texts.items() if text.strip()}


def options(group: str, folders: Sequence[Path]) -> list[str]:
    """The names of a group's options."""
    return sorted({path.stem for root in folders for path in (root / group).glob("*.yaml")}) if group else []


def place(group: str, option: str, folders: Sequence[Path]) -> Path:
    """The YAML of an option: that of the first folder that has one."""
    return next(root / group / f"{option}.yaml" for root in folders if (root / group / f"{option}.yaml").is_file())
