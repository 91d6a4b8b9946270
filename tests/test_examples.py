"""The examples in docstrings are right, and every pure function of a loss, schedule, penalty or metric has one."""

from __future__ import annotations

import ast
import doctest
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITH = [path for path in sorted((ROOT / "kdlab").rglob("*.py")) if ">>> " in path.read_text("utf-8")]
ROOMS = [*(f"kdlab/{room}" for room in ("loss", "schedule", "penalty", "metric")), "kdlab/task/weight.py"]

# A function of values alone takes and returns nothing but these; what Any is, its example shows.
PLAIN = {
    "Tensor", "float", "int", "bool", "str", "None", "tuple", "list", "dict", "Sequence", "Mapping", "Any", "Pair",
    "Schedule", "UserError", "torch", "dtype",
}  # fmt: skip


@pytest.mark.parametrize("path", WITH, ids=lambda path: path.relative_to(ROOT / "kdlab").with_suffix("").as_posix())
def test_the_examples_are_right(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    found = doctest.testmod(import_module(name))
    assert found.attempted and not found.failed


def pure(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The public functions of a module that compute a value from values."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.returns is not None:
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            annotations = [argument.annotation for argument in arguments if argument.annotation is not None]
            named = {
                one.id if isinstance(one, ast.Name) else one.attr
                for annotation in (*annotations, node.returns)
                for one in ast.walk(annotation)
                if isinstance(one, ast.Name | ast.Attribute)
            }
            checks = isinstance(node.returns, ast.Constant) and node.returns.value is None
            if arguments and named <= PLAIN and not checks and node.args.vararg is None:
                yield node


FUNCTIONS = [
    pytest.param(node, id=f"{path.relative_to(ROOT / 'kdlab').as_posix()}:{node.name}")
    for room in ROOMS
    for path in ([ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py")))
    for node in pure(ast.parse(path.read_text("utf-8")))
]


@pytest.mark.parametrize("node", FUNCTIONS)
def test_every_pure_function_has_an_example_that_shows_a_value(node):
    examples = doctest.DocTestParser().get_examples(ast.get_docstring(node) or "")
    assert examples, f"{node.name} lacks an Example: of two or three lines, with a number that one can check by hand"
    assert len(examples) <= 4 and any(node.name in one.source for one in examples) and examples[-1].want.strip()


def test_the_rule_finds_functions_of_values_and_leaves_others():
    source = """
def value(x: Tensor, power: float) -> Tensor: ...
def of_model(model: nn.Module) -> float: ...
def check(x: Tensor) -> None: ...
def _hidden(x: Tensor) -> Tensor: ...
"""
    assert [node.name for node in pure(ast.parse(source))] == ["value"]
    assert len(FUNCTIONS) > 100
