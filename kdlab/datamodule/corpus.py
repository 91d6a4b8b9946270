"""Texts and labels as they were read, before anything is split or tokenised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdlab.error import UserError


@dataclass(frozen=True)
class Corpus:
    """Rows; the position of a row is its id for good.

    Attributes:
        where: what to call the source in a message.
        texts: one a row, none empty.
        labels: one a row; None = unlabelled. With ``multi_label`` a list of names a row, which may be empty.
        names: the order of the labels, or None: sorted.
        split: ``train``, ``val`` or ``test`` a row, or None: to be cut by fractions.
        multi_label: whether a row may have several labels.
    """

    where: str
    texts: list[str]
    labels: list
    names: list[str] | None = None
    split: list[str] | None = None
    multi_label: bool = False

    def check(self) -> None:
        """Raise UserError for no rows or an empty text."""
        if not self.texts:
            raise UserError(f"{self.where} has no rows")
        for index, text in enumerate(self.texts):
            if not text.strip():
                raise UserError(f"{self.where}: the text of row {index + 1} is empty: fill it or remove the row")

    def order(self) -> list[str]:
        """Label names in the order of the logits: as fixed, or by number where all are numbers, or by name."""
        if self.names is not None:
            return list(self.names)
        given = [label for label in self.labels if label is not None]
        found = {name for each in given for name in each} if self.multi_label else set(given)
        if all(name.removeprefix("-").isdecimal() for name in found):
            return sorted(found, key=int)
        return sorted(found)

    def codes(self) -> np.ndarray:
        """Labels as numbers: ``[N]`` int64, or with ``multi_label`` ``[N, C]`` float32; unlabelled: -1.

        Raises:
            UserError: a label that is not among the names.
        """
        index = {name: code for code, name in enumerate(self.order())}
        if not self.multi_label:
            return np.array([-1 if label is None else self._code(index, label, row) for row, label in self._rows()])
        codes = np.zeros((len(self.texts), len(index)), np.float32)
        for row, labels in self._rows():
            if labels is None:
                codes[row] = -1
            else:
                codes[row, [self._code(index, label, row) for label in labels]] = 1
        return codes

    def _rows(self) -> enumerate:
        return enumerate(self.labels)

    def _code(self, index: dict[str, int], label: str, row: int) -> int:
        if label not in index:
            raise UserError(
                f"{self.where}: row {row + 1} has the unknown label '{label}'; known are {', '.join(index)}: correct "
                "it, or add it to datamodule.label_names"
            )
        return index[label]


def labelled(codes: np.ndarray) -> np.ndarray:
    """``[N]`` bool: which rows have labels."""
    return np.asarray(codes >= 0 if codes.ndim == 1 else (codes >= 0).all(1))


def unlike(texts: list[str], labels: list[str]) -> tuple[list[str], list[str]]:
    """Each text once, in the order of first appearance, without the texts that carry two different labels."""
    seen: dict[str, set[str]] = {}
    for text, label in zip(texts, labels, strict=True):
        seen.setdefault(text, set()).add(label)
    kept = {text: next(iter(found)) for text, found in seen.items() if len(found) == 1}
    return list(kept), list(kept.values())
