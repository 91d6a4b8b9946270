"""Splits into rows that train, validate and test: pure functions of texts, classes and a seed, free of the order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from kdlab.error import UserError


def priority(texts: Sequence[str], seed: int, purpose: str) -> np.ndarray:
    """``[N]`` uint64: a random number for each text that depends on the text, the seed and the purpose alone.

    Equal texts get equal numbers, so duplicates tend to stay on one side of a cut.
    """
    key = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    digests = (hashlib.blake2b(text.encode(), digest_size=8, key=key).digest() for text in texts)
    return np.frombuffer(b"".join(digests), np.uint64)


def apportion(counts: np.ndarray, total: int) -> np.ndarray:
    """Whole shares of ``total`` in proportion to ``counts``, none above its count, all of them where total is larger.

    Each share is within one of its exact proportion (largest remainder).
    """
    if total >= counts.sum():
        return counts.copy()
    exact = counts * total / counts.sum()
    shares = np.floor(exact).astype(np.int64)
    rest = np.argsort(shares - exact, kind="stable")[: total - shares.sum()]
    shares[rest] += 1
    return shares


def take(rows: np.ndarray, classes: np.ndarray, total: int, order: np.ndarray) -> np.ndarray:
    """``total`` of the rows, in the proportion of their classes, those of least ``order`` first; sorted.

    Args:
        rows: row ids.
        classes, order: ``[N]`` over all rows.
    """
    names, counts = np.unique(classes[rows], return_counts=True)
    if not len(names):
        return rows
    chosen = [
        first(rows[classes[rows] == name], share, order)
        for name, share in zip(names, apportion(counts, total), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def first(rows: np.ndarray, count: int, order: np.ndarray) -> np.ndarray:
    """The ``count`` rows of least ``order``."""
    return rows[np.argsort(order[rows], kind="stable")[:count]]


def cut(
    classes: np.ndarray, given: Sequence[str] | None, order: np.ndarray, val_fraction: float, test_fraction: float
) -> dict[str, np.ndarray]:
    """Row ids of ``train``, ``val`` and ``test``: disjoint, sorted, stratified by class.

    A given split with labelled rows is taken as it is; a ``val`` or ``test`` that is lacking is cut from ``train``.
    Rows without a label (class -1) are never evaluated: they train, or are in no split.

    Raises:
        UserError: the fractions are not fractions, or a split has no rows.
    """
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 <= fraction < 1:
            raise UserError(f"datamodule.{name} is {fraction}, and must be at least 0 and less than 1")
    words = np.full(len(classes), "train") if given is None else np.asarray(given)
    train = pool = np.flatnonzero(words == "train")
    if len(words) and not len(pool):
        there = ", ".join(f"{np.count_nonzero(words == word)} {word}" for word in ("val", "test") if word in words)
        raise UserError(
            f"the data has no training row ({there}): mark some as train, or let all splits be cut "
            "(datamodule.split_column=null); kdlab evaluate and kdlab predict need no training rows"
        )
    splits = {}
    for name, fraction in (("test", test_fraction), ("val", val_fraction)):
        rows = np.flatnonzero((words == name) & (classes >= 0))
        if not len(rows):
            size = round(fraction * np.count_nonzero(classes[pool] >= 0))
            rows = take(train[classes[train] >= 0], classes, size, order)
            train = np.setdiff1d(train, rows, assume_unique=True)
        if not len(rows):
            raise UserError(_lacking(name, fraction, words, classes))
        splits[name] = rows
    if np.count_nonzero(classes[pool] >= 0) and not np.count_nonzero(classes[train] >= 0):
        raise UserError(
            f"datamodule.val_fraction={val_fraction} and test_fraction={test_fraction} leave no labelled training rows "
            f"out of {np.count_nonzero(classes[pool] >= 0)}: lower them"
        )
    return {"train": train, **splits}


def _lacking(name: str, fraction: float, words: np.ndarray, classes: np.ndarray) -> str:
    """The reason why a split has no labelled rows, with advice."""
    known = words[classes >= 0]
    if not (known == "train").any():
        return (
            f"the {name} split has no labelled rows, and no training row has a label, so that none can be cut off: "
            "label some rows of either"
        )
    if not fraction:
        return f"the {name} split has no labelled rows: raise datamodule.{name}_fraction (0)"
    return (
        f"the {name} split has no labelled rows: raise datamodule.{name}_fraction ({fraction} of "
        f"{np.count_nonzero(known == 'train')} labelled rows is none)"
    )


def whole(classes: np.ndarray, given: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Row ids of the three splits for a data set that is only measured: nothing is cut off.

    Each split has all labelled rows; where the data has splits of its own, each has its own labelled rows.

    Example:
        >>> whole(np.array([0, 1, -1, 1]), None)["test"].tolist()
        [0, 1, 3]
    """
    words = None if given is None else np.asarray(given)
    return {
        name: np.flatnonzero(classes >= 0 if words is None else (words == name) & (classes >= 0))
        for name in ("train", "val", "test")
    }


def few(rows: np.ndarray, classes: np.ndarray, per_class: int, order: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """``per_class`` labelled rows of each class, those of least ``order``; sorted.

    Raises:
        UserError: a class has fewer.
    """
    chosen = []
    for code, name in enumerate(names):
        of_class = rows[classes[rows] == code]
        if len(of_class) < per_class or per_class < 0:
            raise UserError(
                f"datamodule.per_class={per_class}, but the label '{name}' has {len(of_class)} labelled training rows: "
                "choose a number from 0 to the smallest class"
            )
        chosen.append(first(of_class, per_class, order))
    return np.sort(np.concatenate(chosen))


def afford(rows: np.ndarray, budget: int | None, order: np.ndarray) -> np.ndarray:
    """``budget`` of the labelled ``rows``, those of least ``order``; sorted.

    Raises:
        UserError: there are fewer.
    """
    if not isinstance(budget, int) or not 0 <= budget <= len(rows):
        raise UserError(
            f"datamodule.budget={budget}, but there are {len(rows)} labelled training rows: choose a whole number from "
            "0 to that"
        )
    return np.sort(first(rows, budget, order))
