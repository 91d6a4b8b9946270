"""The examples in the docstrings of losses are right."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "kdlab/precision.py", *sorted((ROOT / "kdlab/loss").rglob("*.py"))]
WITH = [path for path in FILES if "Example:" in path.read_text("utf-8")]


@pytest.mark.parametrize("path", WITH, ids=lambda path: path.stem)
def test_the_examples_are_right(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    found = doctest.testmod(import_module(name))
    assert found.attempted and not found.failed
