"""The rooms of the house, checked from the imports themselves: they only go down, and never round in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

GROUND = ""  # the files that lie beside the rooms
TOP = "__main__"
ORDER = (  # from the ground up: a file imports from its own room and from those before it
    GROUND, "schedule", "model", "freeze", "penalty", "datamodule", "task", "loss", "metric", "store", "transform",
    "teacher", "module", "logger", "callback", "config", "report", "format", "artifact", "plan", "fit", "doctor",
    "help", "launcher", "command", TOP,
)  # fmt: skip

HYDRA = ("config", "command", "launcher")  # the rooms that may import Hydra and OmegaConf
BY_NAME = {
    ("config.verb", "command"),  # loads the files that it finds there
    ("fit.rank", "fit.follow"),  # starts processes that run it
}
APART = (("freeze", "model"), ("report", "launcher"))  # the first does without the second


@cache
def files() -> dict[str, Path]:
    """Every module of the package by its dotted name, without ``kdlab.``."""
    found = {}
    for path in sorted((ROOT / "kdlab").rglob("*.py")):
        parts = path.relative_to(ROOT / "kdlab").with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted names of all imports, those inside functions too, but for those under ``if TYPE_CHECKING``.

    Modules that ``import_module`` is given, and those that ``python -m`` starts, count as imported.
    """
    if isinstance(tree, ast.Import):
        yield from (name.name for name in tree.names)
    elif isinstance(tree, ast.ImportFrom):
        assert tree.level == 0, "imports are absolute"
        yield from (f"{tree.module}.{name.name}" for name in tree.names)
    elif isinstance(tree, ast.Constant):
        if isinstance(tree.value, str) and tree.value.startswith("kdlab.") and not set(tree.value) & set(" `:/"):
            yield tree.value
    elif isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.dump(tree.test):
        for node in tree.orelse:
            yield from imported(node)
    else:
        for node in ast.iter_child_nodes(tree):
            yield from imported(node)


@cache
def imports(name: str) -> frozenset[str]:
    """What a module imports, by dotted name; a module of the package without ``kdlab.``."""
    found = set()
    for full in imported(ast.parse(files()[name].read_text("utf-8"))):
        top, _, rest = full.partition(".")
        if top != "kdlab":
            found.add(top)
            continue
        parts = rest.split(".")
        inside = next(
            (".".join(parts[:end]) for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in files()), ""
        )
        if inside and inside != name:
            found.add(inside)
    return frozenset(found)


def room(name: str) -> str:
    if name == TOP:
        return TOP
    return name.split(".")[0] if files()[name].parent != ROOT / "kdlab" else GROUND


def circles() -> set[frozenset[str]]:
    """The largest sets of files of which each imports each, if only through others (Tarjan 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(other for one, other in edges() if one == name):
            if other not in number:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == number[name]:
            members = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(members) > 1:
                found.add(frozenset(members))

    for name in files():
        if name not in number:
            visit(name)
    return found


@cache
def edges() -> set[tuple[str, str]]:
    return {(name, other) for name in files() for other in imports(name) & files().keys()} - BY_NAME


def test_each_room_has_a_place_in_the_order():
    assert {room(name) for name in files()} == set(ORDER)


def test_no_circle_of_files():
    assert not circles()


def test_imports_only_go_down():
    height = {name: at for at, name in enumerate(ORDER)}
    assert {(name, other) for name, other in edges() if height[room(name)] < height[room(other)]} == set()


def test_three_rooms_know_hydra():
    found = {name for name in files() if room(name) not in HYDRA and imports(name) & {"hydra", "omegaconf"}}
    assert not found


@pytest.mark.parametrize(("one", "other"), APART)
def test_rooms_that_do_without_each_other(one, other):
    found = {(name, used) for name, used in edges() if room(name) == one and room(used) == other}
    assert not found


def test_what_counts_as_an_import():
    text = (
        "import a.b\nfrom kdlab.c import d\nif TYPE_CHECKING:\n    import e\nelse:\n    import f\n"
        "def g():\n    from kdlab import h\n    import_module('kdlab.i')\n"
    )
    assert list(imported(ast.parse(text))) == ["a.b", "kdlab.c.d", "f", "kdlab.h", "kdlab.i"]
