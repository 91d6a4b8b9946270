"""The documents of the project, read from disk: front pages, guide pages, and the files and commands in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FRONT = sorted(ROOT.glob("README*.md"))
GUIDE = sorted((ROOT / "kdlab" / "guide").glob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path) -> list[str]:
    """The contents of a document's code blocks."""
    return [content for _, content in BLOCK.findall(path.read_text("utf-8"))]


def prose(path: Path) -> str:
    """A document without its code blocks."""
    return BLOCK.sub("", path.read_text("utf-8"))


def commands(path: Path) -> list[str]:
    """The `kdlab` command lines in a document: lines of code blocks, and code in a sentence or table."""
    lines = [line.strip() for block in blocks(path) for line in block.splitlines()]
    lines = [line[line.index("| kdlab ") + 2 :] if "| kdlab " in line else line for line in lines]
    return [line for line in [*lines, *re.findall(r"`([^`\n]+)`", prose(path))] if line.startswith("kdlab ")]


def files(path: Path) -> dict[str, str]:
    """The files that a document shows: path -> content, of each block whose first line is a comment with its path."""
    found = [re.match(r"# ((?:mylab|conf)/\S+)\n", content) for content in blocks(path)]
    return {match[1]: match.string[match.end() :] for match in found if match}


def shown() -> dict[str, str]:
    """The files that all documents show together; two documents may show a file only with the same content."""
    together: dict[str, str] = {}
    for path in [*FRONT, *GUIDE]:
        for name, content in files(path).items():
            assert together.setdefault(name, content) == content, f"{path.name} shows another {name}"
    return together


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading.

    Example:
        >>> slug("Predict, and *evaluate*: `kdlab`")
        'predict-and-evaluate-kdlab'
    """
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def headings(path: Path) -> set[str]:
    """The anchors of a document."""
    return {slug(line) for line in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)}
