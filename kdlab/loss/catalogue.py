"""The table of all objectives, from their YAML and their code, so that a document of them cannot drift."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from kdlab.loss.term import Term
from kdlab.outcome import Bernoulli, Choice, Classes, Outcome, Real

FITS = {
    Outcome: "any",
    Classes: "one label or several",
    Choice: "one label",
    Bernoulli: "several labels",
    Real: "1 number a row",
}
START, END = "<!-- objectives: written by `make docs` -->", "<!-- /objectives -->"


@dataclass(frozen=True)
class Entry:
    """One term.

    Attributes:
        name: ``kdlab distill … +loss/term@loss.terms.NAME=NAME``.
        family: logit, feature or relation.
        about: the first comment of its YAML.
        source: authors, year and number of the paper.
        recipes: the options of ``loss`` that hold it.
        term: built as its YAML says.
    """

    name: str
    family: str
    about: str
    source: str
    recipes: tuple[str, ...]
    term: Term

    @property
    def reads(self) -> str:
        """Its inputs beside a row's logits: taps, the labels of rows that have one, the other rows of a batch."""
        taps = sorted({tap for names in self.term.taps.values() for tap in names})
        found = ["layers, mapped"] if self.term.maps_layers else [f"`{tap}`" for tap in taps]
        found += ["labels"] if self.term.reads_labels else []
        found += [] if self.term.row_wise else ["other rows"]
        return ", ".join(found + ([] if self.term.needs_teacher else ["no teacher"]))

    @property
    def tasks(self) -> str:
        """The tasks that it fits."""
        return FITS[self.term.outcome]


def entries(conf: Path) -> Iterator[Entry]:
    """Every option of ``loss/term`` below ``conf``, by family and name."""
    recipes = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted((conf / "loss").glob("*.yaml"))}
    terms_of = {name: _terms(recipe) for name, recipe in recipes.items()}
    found = []
    for path in sorted((conf / "loss/term").glob("*.yaml")):
        text = path.read_text("utf-8")
        node = yaml.safe_load(text)
        term = _build(node)
        family = node["_target_"].split(".")[-3]
        about = next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), "")
        users = tuple(name for name, terms in terms_of.items() if path.stem in terms)
        found.append(Entry(path.stem, family, about, source(type(term)), users, term))
    order = ("logit", "feature", "relation")
    yield from sorted(found, key=lambda entry: (*(entry.family != name for name in order), entry.name))


def source(kind: type) -> str:
    """The origin of a method: the ``Source:`` of its class, or of a function in its module, in short."""
    module = import_module(kind.__module__)
    local = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    for owner in (kind, *(value for value in local if inspect.isfunction(value))):
        match = re.search(r"Source:\s+(.+?)(?:\n\s*\n|\Z)", inspect.getdoc(owner) or "", re.DOTALL)
        if match:
            text = " ".join(match[1].split())
            short = re.match(r".*?(arXiv:\d{4}\.\d{4,5})", text)
            return short[0] if short else text.split(";")[0].rstrip(".")
    return ""


def table(conf: Path) -> str:
    """The objectives as a Markdown table."""
    lines = ["| term | what it is | reads beside logits | tasks | in recipe | source |", "|---|---|---|---|---|---|"]
    family = ""
    for entry in entries(conf):
        if entry.family != family:
            family = entry.family
            lines.append(f"| **{family}** | | | | | |")
        link = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", entry.source)
        recipes = ", ".join(f"`{name}`" for name in entry.recipes)
        lines.append(f"| `{entry.name}` | {entry.about} | {entry.reads} | {entry.tasks} | {recipes} | {link} |")
    return "\n".join(lines)


def written(document: str, conf: Path) -> str:
    """``document`` with the table between its two markers.

    Raises:
        ValueError: it lacks a marker.
    """
    return between(document, START, table(conf), END)


def between(document: str, start: str, text: str, end: str) -> str:
    """``document`` with ``text`` between two markers.

    Raises:
        ValueError: it lacks a marker.

    Example:
        >>> import torch
        >>> between("a [ old ] z", "[", "new", "]").splitlines()
        ['a [', 'new', '] z']
    """
    before, begun, rest = document.partition(start)
    _, ended, after = rest.partition(end)
    if not begun or not ended:
        raise ValueError(f"the document lacks the marker {end if begun else start}")
    return f"{before}{start}\n{text}\n{end}{after}"


def _terms(recipe: dict[str, Any]) -> set[str]:
    """The names of the term options in a recipe's defaults."""
    nodes = [entry for entry in recipe.get("defaults", []) if isinstance(entry, dict)]
    return {str(option) for node in nodes for group, option in node.items() if "term@" in group}


def _build(node: Any) -> Any:
    """An object from a YAML node; what is interpolated is 1, since only the kind of term matters here."""
    if isinstance(node, str) and node.startswith("${"):
        return 1.0
    if not isinstance(node, dict):
        return node
    values = {key: _build(value) for key, value in node.items() if not str(key).startswith("_") and key != "defaults"}
    if "_target_" not in node:
        return values
    module, _, name = node["_target_"].rpartition(".")
    return getattr(import_module(module), name)(**values)
