"""The arguments of what a config node configures, read from its code as text: torch need not be imported for a typo."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from kdlab.config.check import library

HOPS = 12  # imports and base classes that are followed from one module to the next


@dataclass(frozen=True)
class Signature:
    """Arguments with their annotations, as written; open: there may be others.

    Attributes:
        name: of the class or function.
        parameters: argument -> annotation, "" where it has none.
    """

    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    open: bool = False
    target: str = ""

    def annotation(self, name: str) -> str:
        """What an argument may be, as `kdlab.config.check` knows it."""
        return library(self.target).get(name) or self.parameters.get(name, "")


def signature(target: str, folders: Sequence[Path] = ()) -> Signature | None:
    """What the class or function of a dotted path takes; None where its code is not found.

    Args:
        folders: of configs; code is also looked for beside them.
    """
    module, _, name = target.rpartition(".")
    found = _of(module, name, tuple(folders), HOPS) if module else None
    return found and replace(found, target=target)


@cache
def tree(path: Path) -> ast.Module:
    """A module's code, parsed."""
    return ast.parse(path.read_text("utf-8"))


def file(module: str, folders: Sequence[Path]) -> Path | None:
    """Where the code of a module lies."""
    inside = Path(*module.split(".")) if module else None
    roots = [Path(__file__).parents[2], *(folder.parent for folder in folders), Path.cwd(), *map(Path, sys.path)]
    places = (
        place for root in roots if inside for place in (root / inside.with_suffix(".py"), root / inside / "__init__.py")
    )
    return next((place for place in places if place.is_file()), None)


def inherits(target: str, base: str, folders: Sequence[Path] = ()) -> bool:
    """Whether the class of a dotted path, or one that it is derived from, has the name ``base``.

    Example:
        >>> inherits("kdlab.task.causal_lm.CausalLM", "GenerativeTask")
        True
    """
    module, _, name = target.rpartition(".")
    return bool(module) and _inherits(module, name, base, tuple(folders), HOPS)


def _inherits(module: str, name: str, base: str, folders: tuple[Path, ...], hops: int) -> bool:
    node, where = _definition(module, name, folders, hops) or (None, "")
    if not isinstance(node, ast.ClassDef):
        return False
    above = [one.id for one in node.bases if isinstance(one, ast.Name)]
    return base in (node.name, *above) or any(_inherits(where, one, base, folders, hops - 1) for one in above)


def _of(module: str, name: str, folders: tuple[Path, ...], hops: int) -> Signature | None:
    found = _definition(module, name, folders, hops)
    if found is None:
        return None
    node, where = found
    if isinstance(node, ast.ClassDef):
        return _class(node, where, folders, hops)
    return Signature(name, *_arguments(node, skip=0))


def _definition(
    module: str, name: str, folders: tuple[Path, ...], hops: int
) -> tuple[ast.FunctionDef | ast.ClassDef, str] | None:
    """The code of a class or function that a module has or imports, and the module that has it."""
    path = file(module, folders)
    if path is None or not hops:
        return None
    try:
        body = tree(path).body
    except (SyntaxError, UnicodeDecodeError):
        return None
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return node, module
    origin = _imported(body, module, name, is_package=path.name == "__init__.py")
    return _definition(*origin, folders, hops - 1) if origin else None


def _class(node: ast.ClassDef, module: str, folders: tuple[Path, ...], hops: int) -> Signature | None:
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return Signature(node.name, *_arguments(inner, skip=1))
    found = Signature(node.name)
    bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id not in ("ABC", "Protocol")]
    for base in bases:
        above = _of(module, base, folders, hops - 1)
        if above is not None and (above.parameters or not _data(node)):
            found.parameters.update(above.parameters)
            found = Signature(node.name, found.parameters, found.open or above.open)
    if not _data(node):
        return found if found.parameters or not bases else None
    for inner in node.body:
        if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
            annotation = ast.unparse(inner.annotation)
            if isinstance(inner.value, ast.Call) and "init=False" in ast.unparse(inner.value):
                found.parameters.pop(inner.target.id, None)
            elif not annotation.startswith(("ClassVar", "typing.ClassVar")):
                found.parameters[inner.target.id] = annotation
    return Signature(node.name, found.parameters)


def _data(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(one) for one in node.decorator_list)


def _arguments(node: ast.FunctionDef, skip: int) -> tuple[dict[str, str], bool]:
    given = [*node.args.posonlyargs, *node.args.args][skip:] + node.args.kwonlyargs
    annotations = {one.arg: ast.unparse(one.annotation) if one.annotation else "" for one in given}
    return annotations, node.args.kwarg is not None


def _imported(body: Sequence[ast.stmt], module: str, name: str, is_package: bool) -> tuple[str, str] | None:
    for node in body:
        if isinstance(node, ast.ImportFrom):
            for one in node.names:
                if (one.asname or one.name) == name:
                    parts = module.split(".")
                    up = len(parts) - node.level + is_package
                    stem = [*parts[:up], *filter(None, [node.module])] if node.level else [str(node.module)]
                    return ".".join(stem), one.name
    return None
