"""`kdlab help KEY`: what a single key does, what it may be, and its default under each option."""

from __future__ import annotations

import fnmatch
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kdlab.config.check import fault
from kdlab.config.signature import signature
from kdlab.config.verb import Verb, verbs
from kdlab.help.comment import comments

WIDTH = 110
MANY = 20  # options with the same default that are not listed one by one


@dataclass(frozen=True)
class Place:
    """Where the options of a group are put in a verb's config; ``option`` is the verb's own choice, or ""."""

    verb: str
    path: str
    group: str
    option: str


@dataclass(frozen=True)
class Setting:
    """A key as one file has it."""

    verb: str
    option: str
    default: bool
    value: Any
    comment: str
    must: str


def known(folders: Sequence[Path]) -> list[str]:
    """Every key of every verb, under any option."""
    found: dict[str, None] = {}
    for verb in _verbs(folders):
        found.update(dict.fromkeys(key for file in _own(verb, folders) for key in comments(file)))
        for place in places(verb, folders):
            for file in _options(place.group, folders).values():
                prefix = "" if _is_global(file) else f"{place.path}."
                found.update(dict.fromkeys(f"{prefix}{key}" for key in comments(file)))
    return list(found)


def explained(key: str, folders: Sequence[Path]) -> str:
    """The page of a key; "" where no verb has it.

    Args:
        folders: of configs, the user's own first.
    """
    found: list[Setting] = []
    group = ""
    for verb in _verbs(folders):
        for setting in _of_root(verb, key, folders):
            found.append(setting)
        for place in places(verb, folders):
            if not found and fnmatch.fnmatch(key, f"{place.path}.*"):
                found = list(_of_group(place, key, folders))
                group = place.group if found else ""
                named = [one for one in found if one.option == f"{place.group}={key.split('.')[-2]}"]
                found = named if place.path.endswith("*") and named else found
        if found:
            break
    if not found:
        return ""
    page, all_verbs = _page(key, found, group, verbs(folders)), verbs(folders)
    if "." in key or all_verbs[found[0].verb].trains:
        return page
    others = sorted((one for one in known(folders) if one.endswith(f".{key}")), key=lambda one: one.count("."))
    return "\n".join([page, *(f"Another:   kdlab help {other}" for other in others[:3])])


def places(verb: str, folders: Sequence[Path]) -> list[Place]:
    """Where a verb puts its groups, the deepest first."""
    found = []
    for file in _own(verb, folders):
        for entry in (yaml.safe_load(file.read_text("utf-8")) or {}).get("defaults", []):
            for key, option in entry.items() if isinstance(entry, dict) else ():
                group, _, package = key.partition("@")
                if not key.startswith("override "):
                    found.append(Place(verb, package or group.replace("/", "."), group, str(option or "")))
    if any(one.group == "module" for one in found):
        found += [Place(verb, "loss.terms.*", "loss/term", ""), Place(verb, "transform.*", "peft", "")]
        below = {"task.head", "datamodule.augment", "datamodule.select", "datamodule.curriculum", "teacher.combine"}
        found += [Place(verb, path, path.replace(".", "/"), "") for path in sorted(below)]
    return sorted(found, key=lambda one: -one.path.count("."))


def _verbs(folders: Sequence[Path]) -> list[str]:
    """Those that have keys: first those that train, in the order of the alphabet."""
    return [name for name, verb in verbs(folders).items() if verb.composed]


def _own(verb: str, folders: Sequence[Path]) -> list[Path]:
    files = [folder / f"{verb}.yaml" for folder in folders]
    trains = any("module:" in file.read_text("utf-8") for file in files if file.is_file())
    files += [folder / "base.yaml" for folder in folders] * trains
    return [file for file in files if file.is_file()]


def _options(group: str, folders: Sequence[Path]) -> dict[str, Path]:
    return {path.stem: path for folder in reversed(folders) for path in sorted((folder / group).glob("*.yaml"))}


def _of_root(verb: str, key: str, folders: Sequence[Path]) -> Iterator[Setting]:
    from kdlab.config.kind import ROOT

    for file in _own(verb, folders):
        if (comment := comments(file).get(key)) is not None:
            yield Setting(verb, "", True, _value(file, key), comment, fault(ROOT.get(key, ""), object()))
            return


def _of_group(place: Place, key: str, folders: Sequence[Path]) -> Iterator[Setting]:
    rest = key.split(".", place.path.count(".") + 1)[-1]
    for option, file in _options(place.group, folders).items():
        inside = key if _is_global(file) else rest
        comment = comments(file).get(inside)
        if comment is None:
            continue
        node = yaml.safe_load(file.read_text("utf-8"))
        *path, name = inside.split(".")
        for one in path:
            node = node[one]
        code = signature(str(node.get("_target_", "")), folders)
        must = fault(code.annotation(name), object()) if code else ""
        here = option == place.option
        yield Setting(place.verb, f"{place.group}={option}", here, _value(file, inside), comment, must)


def _is_global(file: Path) -> bool:
    return "@package _global_" in file.read_text("utf-8")


def _value(file: Path, key: str) -> Any:
    node = yaml.safe_load(file.read_text("utf-8"))
    for name in key.split("."):
        node = node[name]
    return node


def _page(key: str, found: Sequence[Setting], group: str, known_verbs: Mapping[str, Verb]) -> str:
    first = next((one for one in found if one.default), found[0])
    verb = first.verb
    lines = [textwrap.fill(f"{key}: {first.comment or 'a group of settings'}", WIDTH)]
    if first.must:
        lines += ["", textwrap.fill(f"It may be {first.must}.", WIDTH)]
    values = {_short(one.value) for one in found}
    if len(values) == 1 and (len(found) > MANY or not first.option):
        lines += ["", f"Default:   {_short(first.value)}"]
    else:
        wide = max(len(one.option) for one in found)
        lines += ["", "Default, by option:"]
        lines += [f"  {one.option:<{wide}}  {_short(one.value)}{'   (chosen)' * one.default}" for one in found]
    sweep = f"   a sweep: kdlab {verb} -m {key}=A,B" if known_verbs[verb].trains else ""
    lines += ["", f"Set it:    kdlab {verb} {key}=VALUE{sweep}"]
    if group:
        lines += [f"Its group: kdlab help {group}"]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip().removesuffix("...").strip()
    return text if len(text) <= 60 else f"{text[:59]}…"
