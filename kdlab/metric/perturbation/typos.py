"""Slips of the fingers."""

from __future__ import annotations

from typing import final

import numpy as np

from kdlab.metric.perturbation.base import Perturbation

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")  # of a keyboard
BESIDE = {
    key: row[max(0, at - 1) : at] + row[at + 1 : at + 2] for row in ROWS for at, key in enumerate(row)
}  # the keys next to each


def typos(text: str, strength: float, random: np.random.Generator) -> str:
    """Each letter is left out, doubled, swapped with the next one or replaced by a key beside it with a probability.

    Source: Belinkov, Bisk 2018, arXiv:1711.02173, section 4 (synthetic noise).

    Example:
        >>> typos("a fine film", 0.3, np.random.default_rng(0)), typos("a fine film", 0.0, np.random.default_rng(0))
        ('a ffune film', 'a fine film')
    """
    draws, kinds, sides = random.random(len(text)), random.integers(0, 4, len(text)), random.random(len(text))
    found, skip = [], False
    for at, letter in enumerate(text):
        if skip:
            skip = False
            continue
        kind = kinds[at] if letter.isalpha() and draws[at] < strength else -1
        following = text[at + 1 : at + 2]
        near = BESIDE.get(letter.lower(), "")
        if kind == 0:
            continue
        if kind == 1:
            letter += letter
        elif kind == 2 and following.isalpha():
            letter, skip = following + letter, True
        elif kind == 3 and near:
            letter = near[int(sides[at] * len(near))]
        found.append(letter)
    return "".join(found) or text


@final
class Typos(Perturbation):
    """See :func:`typos`."""

    reads = "text"

    def change(self, value: str, strength: float, random: np.random.Generator) -> str:
        return typos(value, strength, random)
