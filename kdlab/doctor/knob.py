"""Which keys of a sweep change anything: a knob that does nothing is a comparison of a run with itself."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from kdlab.doctor.trial import Trace


@dataclass
class Knob:
    """What turning one key did.

    Attributes:
        key: as on the command line.
        words: ``key=value``, each value.
        changes: what some two values made differ; empty: nothing.
        silent: settings of the other keys under which all values gave the same.
        equal: groups of words that gave the same where others did not.
        tried: under how many settings of the other keys it was turned.
    """

    key: str
    words: Sequence[str]
    changes: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    equal: list[list[str]] = field(default_factory=list)
    tried: int = 0

    @property
    def dead(self) -> bool:
        return self.tried > 0 and not self.changes


def _itself(words: Mapping[str, str]) -> Hashable:
    return tuple(words.values())


def turn(
    swept: Mapping[str, Sequence[str]],
    trace: Callable[[Mapping[str, str]], Trace | None],
    seconds: float,
    alike: Callable[[Mapping[str, str]], Hashable] = _itself,
) -> list[Knob]:
    """Turn each key through its values, the others held.

    Every key is turned under the first setting of the others, then, while there is time, under further ones; one that
    has done nothing yet is turned under all of them, and of any other no more values are tried than show that it does
    something. Of settings that are alike one is enough.

    Args:
        trace: what a point does, by key; None where it cannot run.
        seconds: after which only keys that did nothing yet are still turned.
        alike: settings for which it is equal differ in nothing that another key could depend on to do something.
    """
    began = time.monotonic()
    knobs = [Knob(key, words) for key, words in swept.items()]
    settings = {knob.key: iter(_others(swept, knob.key, alike)) for knob in knobs}
    open_knobs = list(knobs)
    while open_knobs:
        for knob in list(open_knobs):
            others = next(settings[knob.key], None)
            late = time.monotonic() - began > seconds and knob.tried > 0
            if others is None or (late and knob.changes):
                open_knobs.remove(knob)
            else:
                _turn(knob, others, trace, hurry=time.monotonic() - began > seconds)
    return knobs


def _turn(
    knob: Knob, others: Mapping[str, str], trace: Callable[[Mapping[str, str]], Trace | None], hurry: bool
) -> None:
    """Turn a key through its values; in a hurry, until two of them differ."""
    seen: dict[str, Trace] = {}
    for word in knob.words:
        one = trace({**others, knob.key: word})
        if one is not None:
            seen[word] = one
        if hurry and len({tuple(sorted(known.items())) for known in seen.values()}) > 1:
            break
    if len(seen) < 2:
        return
    knob.tried += 1
    parts = list(dict.fromkeys(part for one in seen.values() for part in one))
    changed = [part for part in parts if len({one.get(part) for one in seen.values()}) > 1]
    knob.changes += [part for part in changed if part not in knob.changes]
    if not changed:
        knob.silent.append(", ".join(others.values()))
        return
    same: dict[tuple, list[str]] = {}
    for word, one in seen.items():
        same.setdefault(tuple(sorted(one.items())), []).append(word)
    knob.equal += [words for words in same.values() if len(words) > 1 and words not in knob.equal]


def _others(
    swept: Mapping[str, Sequence[str]], key: str, alike: Callable[[Mapping[str, str]], Hashable]
) -> list[dict[str, str]]:
    rest = {name: words for name, words in swept.items() if name != key}
    found: dict[Hashable, dict[str, str]] = {}
    for row in itertools.product(*rest.values()):
        words = dict(zip(rest, row, strict=True))
        found.setdefault(alike(words), words)
    return list(found.values())
