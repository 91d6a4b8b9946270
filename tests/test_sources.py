"""What the sources may name: words of one modality stay in the rooms of that modality."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = {"input_ids", "attention_mask", "tokenizer"}  # what only texts have

# The text model families, the processor of texts and what it is made of.
HOME = (
    "model/", "transform/", "datamodule/processor/text.py", "datamodule/tokenizer.py", "datamodule/base.py",
    "datamodule/rows.py", "datamodule/augment/", "datamodule/odd.py", "task/causal_lm.py", "teacher/zero_shot.py",
    "config/tokens.py", "artifact/predictor.py", "artifact/classifier.py",
)  # fmt: skip

# Files that name them all the same. This list only gets shorter: a file that does no longer fails the test.
ELSEWHERE: set[str] = {
    "artifact/chain.py", "artifact/find.py", "artifact/trained.py", "command/evaluate.py", "config/early.py",
    "config/identity.py", "doctor/table.py", "fit/display.py",
}  # fmt: skip


def named(tree: ast.AST) -> Iterator[str]:
    """Every name, attribute, argument, and string that is such a word alone, so no prose."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_only_the_rooms_of_texts_name_what_texts_have():
    found = set()
    for path in sorted((ROOT / "kdlab").rglob("*.py")):
        name = path.relative_to(ROOT / "kdlab").as_posix()
        if not name.startswith(HOME) and TEXT & set(named(ast.parse(path.read_text("utf-8")))):
            found.add(name)
    assert found == ELSEWHERE


def test_no_parameter_is_data_of_any_kind():
    found = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "kdlab").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.arg) and node.arg == "data" and getattr(node.annotation, "id", None) == "Any"
    ]
    assert found == []
