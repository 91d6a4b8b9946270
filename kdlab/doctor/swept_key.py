"""Which keys of a sweep change anything: a key that does nothing is a comparison of a run with itself."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from kdlab.doctor.dry_run import Trace


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
    began = time.monotonic()
    keys = [SweptKey(key, words) for key, words in swept.items()]
    settings = {key.key: iter(_others(swept, key.key, alike)) for key in keys}
    open_keys = list(keys)
    while open_keys:
        for key in list(open_keys):
            others = next(settings[key.key], None)
            late = time.monotonic() - began > seconds and key.tried > 0
            if others is None or (late and key.changes):
                open_keys.remove(key)
            else:
                _vary(key, others, trace, hurry=time.monotonic() - began > seconds)
    return keys


def _vary(
    key: SweptKey, others: Mapping[str, str], trace: Callable[[Mapping[str, str]], Trace | None], hurry: bool
) -> None:
    """Turn a key through its values; in a hurry, until two of them differ."""
    seen: dict[str, Trace] = {}
    for word in key.words:
        one = trace({**others, key.key: word})
        if one is not None:
            seen[word] = one
        if hurry and len({tuple(sorted(known.items())) for known in seen.values()}) > 1:
            break
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
