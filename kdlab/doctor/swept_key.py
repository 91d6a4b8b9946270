"""Which keys of a sweep change anything: a key that does nothing is a comparison of a run with itself."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from kdlab.doctor.dry_run import Trace

LONGEST = 15.0  # seconds for the values of a key, once two of them differ


@dataclass
class SweptKey:
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


def vary(
    swept: Mapping[str, Sequence[str]],
    trace: Callable[[Mapping[str, str]], Trace | None],
    seconds: float,
    alike: Callable[[Mapping[str, str]], Hashable] = _itself,
) -> list[SweptKey]:
    """Turn each key through its values, the others held.

    Every key is turned under the first setting of the others, then, while there is time, under further ones; one that
    has done nothing yet is turned under all of them, and of any other no more values are tried than show that it does
    something. Of settings that are alike one is enough.

    Args:
        trace: what a point does, by key; None where it cannot run.
        seconds: after which only keys that did nothing yet are still turned.
        alike: settings for which it is equal differ in nothing that another key could depend on to do something.
    """
    end = time.monotonic() + seconds
    keys = [SweptKey(key, words) for key, words in swept.items()]
    settings = {key.key: iter(_others(swept, key.key, alike)) for key in keys}
    open_keys = list(keys)
    while open_keys:
        for key in list(open_keys):
            others = next(settings[key.key], None)
            late = time.monotonic() > end and key.tried > 0
            if others is None or (late and key.changes):
                open_keys.remove(key)
            else:
                _vary(key, others, trace, end, alike)
    return keys


def _vary(
    key: SweptKey,
    others: Mapping[str, str],
    trace: Callable[[Mapping[str, str]], Trace | None],
    end: float,
    alike: Callable[[Mapping[str, str]], Hashable],
) -> None:
    """Turn a key through its values.

    Once two of them differ, no further one is tried if ``end`` had passed before the first, and after ``end`` none that
    is like one that was tried: of a thousand numbers a few are enough.
    """
    seen: dict[str, Trace] = {}
    different: set[tuple] = set()
    like: set[Hashable] = set()
    began = time.monotonic()
    for word in key.words:
        words = {**others, key.key: word}
        if len(different) > 1 and (now := time.monotonic()) > end:
            if began > end or now > began + LONGEST:
                break
            if alike(words) in like:
                continue
        one = trace(words)
        like.add(alike(words))
        if one is not None:
            seen[word] = one
            different.add(tuple(sorted(one.items())))
    if len(seen) < 2:
        return
    key.tried += 1
    parts = list(dict.fromkeys(part for one in seen.values() for part in one))
    changed = [part for part in parts if len({one.get(part) for one in seen.values()}) > 1]
    key.changes += [part for part in changed if part not in key.changes]
    if not changed:
        key.silent.append(", ".join(others.values()))
        return
    same: dict[tuple, list[str]] = {}
    for word, one in seen.items():
        same.setdefault(tuple(sorted(one.items())), []).append(word)
    key.equal += [words for words in same.values() if len(words) > 1 and words not in key.equal]


def _others(
    swept: Mapping[str, Sequence[str]], key: str, alike: Callable[[Mapping[str, str]], Hashable]
) -> list[dict[str, str]]:
    rest = {name: words for name, words in swept.items() if name != key}
    found: dict[Hashable, dict[str, str]] = {}
    for row in itertools.product(*rest.values()):
        words = dict(zip(rest, row, strict=True))
        found.setdefault(alike(words), words)
    return list(found.values())
