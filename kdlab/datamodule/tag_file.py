"""Words with a tag each, in a file of columns (CoNLL) or of objects, without importing torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdlab.datamodule.frame import Frame
from kdlab.error import UserError

TABLES = (".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz")
COMMENT = re.compile(r"#\s*\S+\s*=")  # before a sentence, as CoNLL-U has it


@dataclass
class Tagged:
    """Sentences as they were read.

    Attributes:
        words: of each sentence.
        tags: of each of its words; None: the sentence has none.
        where: what each sentence is called in messages.
    """

    words: list[list[str]] = field(default_factory=list)
    tags: list[list[str] | None] = field(default_factory=list)
    where: list[str] = field(default_factory=list)

    def add(self, words: list[str], tags: Sequence[str | None], where: str) -> None:
        """Add a sentence.

        Raises:
            UserError: a word has no tag and another has one, or there are as many words as tags not.
        """
        if len(words) != len(tags):
            raise UserError(f"{where} has {len(words)} tokens and {len(tags)} tags: give each token one tag")
        known = [tag for tag in tags if tag is not None]
        if 0 < len(known) < len(tags):
            word = words[list(tags).index(None)]
            raise UserError(f"{where}: the token '{word[:40]}' has no tag, but others have: give all a tag, or none")
        self.words.append(words)
        self.tags.append(known if known else None)
        self.where.append(where)


def of_columns(path: Path, name: str, token: int, tag: int | None, encoding: str | None = None) -> Tagged:
    """A file with a token and its tag a line, in columns between tabs or spaces, and an empty line between sentences.

    Lines of ``-DOCSTART-`` and CoNLL-U's comments are left out. A sentence of lines with one column has no tags.

    Args:
        name: of the file, in messages.
        token, tag: the numbers of the columns, 0 the first, -1 the last; no tag: None.

    Raises:
        UserError: no text of this encoding, a line without such a column, or a token without a tag beside others.
    """
    try:
        text = path.read_text(encoding or "utf-8")
    except (UnicodeDecodeError, LookupError) as problem:
        raise UserError(f"{name} is no text in {encoding or 'UTF-8'}: set datamodule.encoding") from problem
    found, first = Tagged(), 1
    words: list[str] = []
    tags: list[str | None] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if not line.strip() or line.startswith("-DOCSTART-"):
            if words:
                found.add(words, tags, f"{name}: the sentence at line {first}")
            words, tags = [], []
            continue
        if not words and COMMENT.match(line):
            continue
        first = number if not words else first
        cells = line.rstrip("\n").split("\t") if "\t" in line else line.split()
        word = _cell(cells, token, f"{name}: line {number}", "token_column")
        of: str | None = None
        if tag is not None and len(cells) > 1:
            of = _cell(cells, tag, f"{name}: line {number}", "tag_column")
        words.append(word)
        tags.append(of)
    return found


def _cell(cells: Sequence[str], number: int, where: str, key: str) -> str:
    if not -len(cells) <= number < len(cells) or not cells[number].strip():
        raise UserError(
            f"{where} has {len(cells)} columns, and nothing in number {number} of them, datamodule.{key}: correct it"
        )
    return cells[number].strip()


def of_table(frame: Frame, token: str, tag: str | None, names: Sequence[str] | None) -> Tagged:
    """A table with a list of tokens and a list of tags a row; an empty list or none leaves a row without tags.

    Args:
        names: of tags that are given by number.

    Raises:
        UserError: a column that is not there, or a cell that is no list, or another one than its tokens are.
    """
    found = Tagged()
    tags: Sequence[Any] = [None] * len(frame) if tag is None else frame.column(tag, "tag_column")
    for row, (words, own) in enumerate(zip(frame.column(token, "token_column"), tags, strict=True)):
        where = f"{frame.where}: {frame.row_name(row)}"
        cells = _list(words, where, token)
        if not cells or not all(cells):
            raise UserError(f"{where} has an empty token or none in the column '{token}': correct or remove it")
        given = None if own is None or own != own else _list(own, where, tag)
        found.add(cells, [_name(one, names, where) for one in given] if given else [None] * len(cells), where)
    return found


def _list(value: Any, where: str, column: Any) -> list[str]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise UserError(f'{where} has {str(value)[:40]!r} in the column \'{column}\', which must be a list: ["a", "b"]')
    return [str(one).strip() for one in value]


def _name(tag: str, names: Sequence[str] | None, where: str) -> str:
    if names is None or tag in names or not tag.isdecimal():
        return tag
    if int(tag) >= len(names):
        raise UserError(f"{where} has the tag number {tag}, and datamodule.label_names has {len(names)} names")
    return names[int(tag)]
