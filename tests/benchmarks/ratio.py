"""Numbers from repeated, interleaved measurements: ratios with their spread, extrapolation, parity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, median, quantiles, variance
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Spread:
    """What repeats of one number say: the median, the quartiles, the extremes, and how many there were."""

    median: float
    low: float
    high: float
    least: float
    most: float
    repeats: int

    def __str__(self) -> str:
        return f"{self.median:.3g}" + (f" ({self.least:.3g} to {self.most:.3g})" if self.repeats > 1 else "")

    def plain(self) -> dict[str, float]:
        return asdict(self)


def spread(values: Sequence[float]) -> Spread:
    """The spread of one or more values; the quartiles of fewer than two are the value itself."""
    if not values:
        raise ValueError("nothing was measured")
    ends = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Spread(median(values), ends[0], ends[2], min(values), max(values), len(values))


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """The spread of ``theirs[i] / ours[i]``: repeats are paired, since neighbours in time saw the same machine.

    The median of ratios is not the ratio of medians, and only the former is immune to a slow minute that hit one pair.
    """
    if len(theirs) != len(ours):
        raise ValueError(f"{len(theirs)} and {len(ours)} repeats cannot be paired")
    return spread([their / our for their, our in zip(theirs, ours, strict=True)])


def interleaved(items: Sequence[Item], repeats: int) -> Iterator[tuple[int, Item]]:
    """Each item once a repeat; each repeat begins one further on, so that nobody is always first."""
    for repeat in range(repeats):
        shift = repeat % len(items) if items else 0
        yield from ((repeat, item) for item in [*items[shift:], *items[:shift]])


def extrapolated(part: float, half: float, share: float) -> float:
    """Seconds of training on all rows, on the straight line through two measured parts.

    A first batch of each shape costs extra once, whatever the rows; dividing by the share would multiply that, to the
    harm of whoever is measured in part.

    Args:
        part: seconds on a ``share`` of the rows, in (0, 1].
        half: seconds on half of that share.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share} of the rows cannot have been measured")
    return part + max(0.0, part - half) / (share / 2) * (1 - share)


@dataclass(frozen=True)
class Parity:
    """Whether two sets of runs are equally accurate.

    Attributes:
        difference: mean of ours minus mean of theirs.
        error: standard error of that difference, from the variance over runs.
    """

    difference: float
    error: float

    @property
    def verdict(self) -> str:
        if abs(self.difference) <= self.error:
            return "equal"
        return "ours is better" if self.difference > 0 else "ours is worse"


def parity(ours: Sequence[float], theirs: Sequence[float]) -> Parity | None:
    """The difference of two means with its standard error; None where fewer than two runs a side were whole."""
    if min(len(ours), len(theirs)) < 2:
        return None
    error = math.sqrt(variance(ours) / len(ours) + variance(theirs) / len(theirs))
    return Parity(mean(ours) - mean(theirs), error)
