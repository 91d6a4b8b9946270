"""Sweeps whose values do not compare, because a loss jumps between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real

from kdlab.config.instantiate import target_of
from kdlab.config.node import Node, as_plain
from kdlab.config.point import Point
from kdlab.loss.term import Term


def jumps(points: Sequence[Point]) -> list[str]:
    """A sentence for each setting of a loss term that a sweep takes over a jump of its value.

    The points of a line differ by their loss alone as a rule; what else differs does not matter here.
    """
    taken: dict[tuple[str, str], set[float]] = {}
    ends: dict[tuple[str, str], tuple[float, ...]] = {}
    for point in points:
        for name, node in _terms(point):
            kind = target_of(node)
            if not (isinstance(kind, type) and issubclass(kind, Term)):
                continue
            settings = as_plain(node)
            for key, values in kind.jumps(settings).items():
                value = settings.get(key)
                if isinstance(value, Real):
                    taken.setdefault((name, key), set()).add(float(value))
                    ends[name, key] = values
    return [
        _sentence(*where, sorted(found), ends[where]) for where, found in taken.items() if _over(found, ends[where])
    ]


def _terms(point: Point) -> Iterator[tuple[str, Node]]:
    """The nodes of the terms of a point's loss, by name."""
    if point.job is None or "loss" not in point.job.cfg or "terms" not in point.job.cfg.loss:
        return
    for name, node in (point.job.cfg.loss.terms or {}).items():
        if isinstance(node, Node) and "_target_" in node:
            yield str(name), node


def _over(values: set[float], ends: tuple[float, ...]) -> bool:
    return len(values) > 1 and any(end in values for end in ends)


def _sentence(name: str, key: str, values: Sequence[float], ends: tuple[float, ...]) -> str:
    shown = ", ".join(f"{value:g}" for value in values)
    where = " and ".join(f"{end:g}" for end in ends if end in values)
    return (
        f"loss.terms.{name}.{key} takes {shown}, but the loss jumps at {where}: the loss there does not compare "
        f"with the others, and near it they go to 0; set loss.terms.{name}.normalise=true, or leave {where} out"
    )
