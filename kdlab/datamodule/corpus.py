"""Values and labels as they were read, before anything is split or encoded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kdlab.error import UserError

PAIR = "\x1f"  # between the two texts of a row that has a pair
FEW = 20  # classes that are never doubted
LONGEST = 1_000_000  # characters of a text that are read: more than any model takes


def numbered(index: int) -> str:
    """The name of a row in messages, where nothing else is known about it."""
    return f"row {index + 1}"


@dataclass(frozen=True)
class Corpus:
    """Rows; the position of a row is its id for good.

    Attributes:
        where: the name of the source in messages.
        values: one a row, of any kind; texts are not empty, and a pair of texts is joined by ``PAIR``.
        labels: one a row; None = unlabelled. With ``multi_label`` a list of names a row, which may be empty.
        names: the order of the labels, or None: sorted.
        split: ``train``, ``val`` or ``test`` a row, or None: to be cut by fractions.
        multi_label: whether a row may have several labels.
        row_name: the name of a row in messages, by its position.
        notices: sentences about how it was read, for its user.
        thing: what a row is, in messages.
    """

    where: str
    values: list[Any]
    labels: list
    names: list[str] | None = None
    split: list[str] | None = None
    multi_label: bool = False
    row_name: Callable[[int], str] = numbered
    notices: list[str] = field(default_factory=list)
    thing: str = "text"

    def divided(self, parts: Sequence[Sequence[Any]]) -> Corpus:
        """The corpus with several values in the place of each, which have its label, its split and its name."""
        rows = [row for row, part in enumerate(parts) for _ in part]
        return replace(
            self, values=[value for part in parts for value in part], labels=[self.labels[row] for row in rows],
            split=None if self.split is None else [self.split[row] for row in rows],
            row_name=lambda index: self.row_name(rows[index]),
        )  # fmt: skip

    def check(self) -> None:
        """Cut texts that are longer than any model reads, with a notice.

        Raises:
            UserError: no rows, an empty text, or one that is no Unicode.
        """
        if not self.values:
            raise UserError(f"{self.where} has no rows")
        for index, text in enumerate(self.values):
            if not text or text.isspace() or (PAIR in text and not all(map(str.strip, text.split(PAIR)))):
                raise UserError(f"{self.where}: the text of {self.row_name(index)} is empty: fill it or remove the row")
            if not text.isascii() and _broken(text):
                raise UserError(
                    f"{self.where}: the text of {self.row_name(index)} has half a character (a lone surrogate): "
                    "correct it"
                )
        for name in self.order():
            if _broken(name):
                raise UserError(f"{self.where} has a label with half a character (a lone surrogate): {name!r}")
        if long := [index for index, text in enumerate(self.values) if len(text) > LONGEST]:
            size = len(self.values[long[0]])
            for index in long:
                self.values[index] = self.values[index][:LONGEST]
            self.notices.append(
                f"{counted(len(long), 'text is', 'texts are')} cut after {LONGEST:,} characters, first: "
                f"{self.row_name(long[0])} with {size:,}"
            )

    def check_classes(self) -> None:
        """Look whether the labels are classes, where no names are given and a row has one label.

        Raises:
            UserError: they are numbers with a fraction, or most differ from all others, as ids do.
        """
        if self.names is not None or self.multi_label:
            return
        given = [label for label in self.labels if label is not None]
        names = self.order()
        choose = "choose another datamodule.label_column (null: none), or list the classes in datamodule.label_names"
        real = next(filter(fraction, names), None)
        if real and len(names) > FEW and all(map(number, names)):  # of few, such as half stars, each may be a class
            raise UserError(
                f"{self.where}: the labels are {len(names):,} different numbers with a fraction, such as {real}, and "
                f"classification needs classes: predict them with task=regression, {choose}"
            )
        if len(names) > FEW and 2 * len(names) > len(given):
            raise UserError(
                f"{self.where}: {len(given):,} rows have {len(names):,} different labels, such as '{names[0][:40]}', "
                f"so most cannot be learned: {choose}"
            )

    def order(self) -> list[str]:
        """Label names in the order of the logits: as fixed, or by number where all are numbers, or by name."""
        if self.names is not None:
            return list(self.names)
        given = [label for label in self.labels if label is not None]
        found = sorted({name for each in given for name in each} if self.multi_label else set(given))
        if all(name.removeprefix("-").isdecimal() and len(name) < 1000 for name in found):
            return sorted(found, key=int)  # a stable sort: 1, 01 and 001 stay in the order of their text
        return found

    def codes(self) -> np.ndarray:
        """Labels as numbers: ``[N]`` int64, or with ``multi_label`` ``[N, C]`` float32; unlabelled: -1.

        Raises:
            UserError: a label that is not among the names.
        """
        index = {name: code for code, name in enumerate(self.order())}
        if not self.multi_label:
            return np.array([-1 if label is None else self._code(index, label, row) for row, label in self._rows()])
        codes = np.zeros((len(self.values), len(index)), np.float32)
        for row, labels in self._rows():
            if labels is None:
                codes[row] = -1
            else:
                codes[row, [self._code(index, label, row) for label in labels]] = 1
        return codes

    def numbers(self) -> np.ndarray:
        """Labels as real numbers: ``[N]`` float32; unlabelled: nan.

        Raises:
            UserError: labels are named or a row may have several, or one is no finite number.

        Example:
            >>> Corpus("mine.csv", ["good", "so so"], ["1.5", None]).numbers().tolist()
            [1.5, nan]
        """
        if self.names is not None or self.multi_label:
            setting = "multi_label (or several label columns)" if self.multi_label else "label_names"
            raise UserError(
                f"{self.where}: datamodule.{setting} is about classes, but the task predicts one number a row: leave "
                "it out, or choose task=sequence_classification"
            )
        found = np.full(len(self.labels), np.nan, np.float32)
        for row, label in self._rows():
            if label is None:
                continue
            if not number(label) or abs(float(label)) > np.finfo(np.float32).max:
                raise UserError(
                    f"{self.where}: {self.row_name(row)} has the label '{label[:80]}', which is no number, and the "
                    "task predicts numbers: correct it, choose another datamodule.label_column, or give labels numbers "
                    "with datamodule.label_map={bad:1,good:2}"
                )
            found[row] = float(label)
        return found

    def _rows(self) -> enumerate:
        return enumerate(self.labels)

    def _code(self, index: dict[str, int], label: str, row: int) -> int:
        if label not in index:
            raise UserError(
                f"{self.where}: {self.row_name(row)} has the unknown label '{label[:80]}'; known are "
                f"{', '.join(index)[:300]}: correct it, or add it to datamodule.label_names"
            )
        return index[label]


def number(name: str) -> bool:
    """Whether a label is a finite number."""
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def fraction(name: str) -> bool:
    """Whether a label is a number that is not whole.

    Example:
        >>> fraction("1.04"), fraction("1.0"), fraction("pos")
        (True, False, False)
    """
    return number(name) and not float(name).is_integer()


def counted(count: int, one: str, many: str) -> str:
    """A number with the words for it.

    Example:
        >>> counted(1, "row has", "rows have"), counted(1394, "row has", "rows have")
        ('1 row has', '1,394 rows have')
    """
    return f"{count:,} {one if count == 1 else many}"


def _broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def labelled(codes: np.ndarray) -> np.ndarray:
    """``[N]`` bool: which rows have labels."""
    return np.asarray(codes >= 0 if codes.ndim == 1 else (codes >= 0).all(1) & (codes.shape[1] > 0))


def unlike(texts: list[str], labels: list[str]) -> tuple[list[str], list[str]]:
    """Each text once, in the order of first appearance, without the texts that carry two different labels."""
    seen: dict[str, set[str]] = {}
    for text, label in zip(texts, labels, strict=True):
        seen.setdefault(text, set()).add(label)
    kept = {text: next(iter(found)) for text, found in seen.items() if len(found) == 1}
    return list(kept), list(kept.values())
