"""Long dialogues as several shorter ones, windows of turns, so that no answer is left out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from kdlab import manifest
from kdlab.datamodule import rows as flat
from kdlab.datamodule.dialogue import Dialogue

Spans = list[tuple[int, int]]
Measure = Callable[[Sequence[Dialogue]], Sequence[int]]  # the tokens of each dialogue


def windows(dialogues: Sequence[Dialogue], measure: Measure, most: int) -> list[Spans]:
    """Where each dialogue is cut into windows of as many exchanges as fit into ``most`` tokens.

    A window is a dialogue of its own: the system prompt stays, and its answers see the turns of the window alone. An
    exchange that is longer than ``most`` by itself is a window of its own.

    Args:
        measure: the number of tokens of each of some dialogues.

    Returns:
        for each dialogue the first and the last exchange of its windows, the last one exclusive.

    Example: two tokens for each turn:
        >>> from kdlab.datamodule.dialogue import Message
        >>> talk = Dialogue(tuple(Message(role, "a") for _ in range(5) for role in ("user", "assistant")))
        >>> windows([talk], lambda found: [2 * len(one.messages) for one in found], most=8)
        [[(0, 2), (2, 4), (4, 5)]]
    """
    counts = [len(one.exchanges()) for one in dialogues]
    found: list[Spans] = [[(0, count)] for count in counts]
    sizes = measure(dialogues)
    long = [row for row, size in enumerate(sizes) if size > most and counts[row] > 1]
    alone = iter(measure([dialogues[row].part(number, number + 1) for row in long for number in range(counts[row])]))
    for row in long:
        each = [next(alone) for _ in range(counts[row])]
        found[row] = _filled(each, max(0, (sum(each) - sizes[row]) // (len(each) - 1)), most)
    return _that_fit(dialogues, found, long, measure, most)


def _filled(sizes: Sequence[int], head: int, most: int) -> Spans:
    """Windows of as many exchanges as fit, one after the other.

    Args:
        sizes: tokens of each exchange alone.
        head: how many of these all windows begin with, such as a system prompt.
    """
    begins, room = [0], most - sizes[0]
    for number, size in enumerate(sizes[1:], 1):
        room -= size - head
        if room < 0:
            begins.append(number)
            room = most - size
    return list(pairwise([*begins, len(sizes)]))


def _that_fit(
    dialogues: Sequence[Dialogue], found: list[Spans], rows: Sequence[int], measure: Measure, most: int
) -> list[Spans]:
    """The windows of some rows, halved until they fit: a template need not write each exchange in the same way."""
    tried = [(row, span) for row in rows for span in found[row] if span[1] - span[0] > 1]
    while tried:
        sizes = measure([dialogues[row].part(*span) for row, span in tried])
        too_long = [one for one, size in zip(tried, sizes, strict=True) if size > most]
        tried = []
        for row, (begin, end) in too_long:
            halves = [(begin, (begin + end) // 2), ((begin + end) // 2, end)]
            place = found[row].index((begin, end))
            found[row][place : place + 1] = halves
            tried += [(row, half) for half in halves if half[1] - half[0] > 1]
    return found


def kept(dialogues: Sequence[Dialogue], digest: str, measure: Measure, most: int) -> list[Spans]:
    """As :func:`windows`, from the cache where they are known.

    Args:
        digest: of all that decides the tokens of a dialogue.
    """
    known = hashlib.sha256(f"windows {digest} {most}".encode())
    for one in dialogues:
        known.update(hashlib.sha256(one.key.encode()).digest())

    def build(new: Path) -> None:
        new.mkdir()
        found = windows(dialogues, measure, most)
        lines = [(row, *span) for row, spans in enumerate(found) for span in spans]
        np.save(new / "windows.npy", np.array(lines, np.int64))
        manifest.write(new)

    def read(folder: Path) -> list[Spans] | None:
        lines = np.load(folder / "windows.npy", allow_pickle=False)
        spans: list[Spans] = [[] for _ in dialogues]
        for row, begin, end in lines.tolist():
            spans[row].append((begin, end))
        return spans if all(spans) else None

    return flat.kept(known.hexdigest()[:32], build, read)
