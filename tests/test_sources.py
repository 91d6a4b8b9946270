"""What the sources may name: words of one modality stay in its rooms, and names and prose are plain."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "kdlab").rglob("*.py"))
TEXT = {"input_ids", "attention_mask", "tokenizer"}  # what only texts have

# The text model families, the processor of texts and what it is made of.
HOME = (
    "model/", "transform/", "datamodule/processor/", "datamodule/tokenizer.py", "datamodule/base.py",
    "datamodule/rows.py", "datamodule/augment/", "datamodule/odd.py", "task/causal_lm.py", "task/seq2seq.py",
    "task/mixture.py", "teacher/zero_shot.py", "datamodule/pairs.py", "datamodule/chat_data.py", "datamodule/packed.py",
    "config/tokens.py", "artifact/predictor.py", "artifact/answerer.py", "artifact/classifier.py", "metric/text/",
    "artifact/tagger.py", "datamodule/tag_data.py",
)  # fmt: skip


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
    for path in PACKAGE:
        name = path.relative_to(ROOT / "kdlab").as_posix()
        if not name.startswith(HOME) and TEXT & set(named(ast.parse(path.read_text("utf-8")))):
            found.add(name)
    assert not found


def test_only_families_and_modules_of_text_models_name_their_inputs():
    modules = ("family/", "architecture/", "zero_shot.py")
    found = {
        path.relative_to(ROOT / "kdlab/model").as_posix()
        for path in sorted((ROOT / "kdlab/model").rglob("*.py"))
        if {"input_ids", "attention_mask"} & set(named(ast.parse(path.read_text("utf-8"))))
    }
    assert found and all(name.startswith(modules) for name in found), found


def test_no_parameter_is_data_of_any_kind():
    found = [
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.arg) and node.arg == "data" and getattr(node.annotation, "id", None) == "Any"
    ]
    assert found == []


# Words that made names and prose hard to read: a tensor is, a model returns, a process prints.
SPOKEN = {"told", "tell", "tells", "said", "say", "says", "hear", "heard", "mine", "theirs", "goal"}
PROSE = re.compile(r"\b(told|said|theirs|mine|goal|what stands|so many|speaks? of|nobody)\b", re.IGNORECASE)


def defined(tree: ast.AST) -> Iterator[str]:
    """The names that a module makes up: functions, classes, arguments, variables and attributes that it sets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def prose(source: str) -> Iterator[str]:
    """The comments and docstrings of a module, without the examples in them."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            yield "\n".join(line for line in text.splitlines() if not line.strip().startswith((">>>", "...")))


def spoken(source: str) -> tuple[bool, bool]:
    """Whether a module has names, and whether it has prose, with words that are not used here."""
    names = any(SPOKEN & set(name.lower().split("_")) for name in defined(ast.parse(source)))
    return names, any(PROSE.search(text) for text in prose(source))


def test_names_and_prose_are_plain():
    found = {path.relative_to(ROOT / "kdlab").as_posix(): spoken(path.read_text("utf-8")) for path in PACKAGE}
    assert [name for name, (names, _) in found.items() if names] == [], "a name with one of SPOKEN"
    assert [name for name, (_, prose) in found.items() if prose] == [], "a comment or docstring with PROSE"


@pytest.mark.parametrize(
    ("source", "names", "prose"),
    [
        ("def ask(said): return said", True, False),
        ("class Learner:\n    def _tell(self): ...", True, False),
        ("self.told = 1", True, False),
        ("study.tell(trial)  # the method of another package", False, False),
        ("x = 1  # what was said", False, True),
        ('"""Rows of so many tokens."""', False, True),
        ('def f():\n    """A value.\n\n    >>> "said"\n    """', False, False),
        ("unsaid, essay = 1, 2  # a tensor is", False, False),
    ],
)
def test_the_rule_of_plain_words_finds_what_it_should(source, names, prose):
    assert spoken(source) == (names, prose)
