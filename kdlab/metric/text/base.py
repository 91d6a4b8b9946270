"""What was generated for some rows, and the base of scores of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import ClassVar

from kdlab.direction import Directions


@dataclass(frozen=True)
class Written:
    """Texts that were generated for some rows, and what the data has in their place: lists with an entry for each row.

    Attributes:
        rows: ids, ascending.
        prompts: what was given.
        answers: the generated texts, without special tokens.
        references: the texts of the data.
        tokens: ids of each generated text, its end token included.
        expected: likewise of each reference.
        ended: whether a generated text ends with an end token.

    Example:
        >>> one, two = (Written([row], [""], ["a"], ["b"], [[5]], [[6]], [True]) for row in (7, 3))
        >>> Written.merged([one, two]).rows
        [3, 7]
    """

    rows: list[int]
    prompts: list[str]
    answers: list[str]
    references: list[str]
    tokens: list[list[int]]
    expected: list[list[int]]
    ended: list[bool]

    @classmethod
    def merged(cls, parts: Iterable[Written]) -> Written:
        """The rows of all parts, sorted by id, each once."""
        lines = {one[0]: one for part in parts for one in zip(*part._lists(), strict=True)}
        found = [lines[row] for row in sorted(lines)]
        return cls(*map(list, zip(*found, strict=True))) if found else cls(*([] for _ in fields(cls)))

    def _lists(self) -> list[Sequence[object]]:
        return [getattr(self, field.name) for field in fields(self)]


class TextScore(ABC):
    """One or a few numbers of all generated texts of a split.

    A score is a class in a file of its name in this folder, and its formula is a pure function beside it.

    Attributes:
        higher_is_better: by name of each number: True, False, or None where neither is better.
        primary: the number that stands for the score where there is room for one.
        package: the name under which the library that it needs is installed; None: it needs none.
        module: the name under which that library is imported.
        signature: the library's own description of how it computed the last value; "": it has none.
    """

    higher_is_better: ClassVar[Directions] = MappingProxyType({})
    primary: ClassVar[str]
    package: ClassVar[str | None] = None
    module: ClassVar[str] = ""
    signature: str = ""

    @abstractmethod
    def compute(self, written: Written) -> dict[str, float]:
        """The numbers, by the names in :attr:`higher_is_better`; NaN where there is nothing to divide by."""
