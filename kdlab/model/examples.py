"""Labelled training rows for models that read some of them, such as the examples of a prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from kdlab.error import UserError


@dataclass(frozen=True)
class Examples:
    """Labelled texts of the training split, none of which is measured.

    Attributes:
        texts: the texts.
        codes: for each the number of its label.
        max_length: most tokens of a row.
    """

    texts: Sequence[str] = ()
    codes: Sequence[int] = ()
    max_length: int = 2**30


def drawn(examples: Examples, labels: Sequence[str], shots: int, seed: int) -> list[tuple[str, int]]:
    """``shots`` texts of each label with its number, in an order in which labels alternate by chance.

    The draw depends on the texts and the seed alone; a smaller number draws some of those of a larger one. A text that
    is there twice is drawn once.

    Raises:
        UserError: a label has fewer.

    Example:
        >>> drawn(Examples(["a", "b", "c"], [0, 1, 0]), ["bad", "good"], 1, seed=0)
        [('c', 0), ('b', 1)]
    """
    key = hashlib.sha256(f"shots {seed}".encode()).digest()
    unique = dict(zip(examples.texts, examples.codes, strict=True))
    order = {text: hashlib.blake2b(text.encode(), digest_size=8, key=key).digest() for text in unique}
    found: list[tuple[str, int]] = []
    for code, label in enumerate(labels):
        own = sorted((text for text, other in unique.items() if other == code), key=order.__getitem__)
        if len(own) < shots:
            raise UserError(
                f"shots={shots} takes as many examples of each label from the training rows, but '{label}' has "
                f"{len(own)} that {'is' if len(own) == 1 else 'are'} not measured: set shots={len(own)} or less, or "
                "keep more labels"
            )
        found += [(text, code) for text in own[:shots]]
    return sorted(found, key=lambda one: order[one[0]])
