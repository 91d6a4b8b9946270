"""Means over seeds, intervals, and which of many differences are none of chance, without scipy (the tests have it)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

ROUNDING = 1e-9  # of a value: smaller spreads are float's own


@dataclass(frozen=True)
class Mean:
    """A mean over seeds; `sd` is the sample standard deviation (n - 1), None for one value."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """The mean difference of pairs and its two-sided Student interval.

    Attributes:
        low, high: None for one pair, and for pairs that all differ by the same, which show no spread.
        p: the probability of a mean so far from 0 by chance alone, not corrected for how many are looked at.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    p: float | None = None


def average(values: Sequence[float]) -> Mean:
    """Mean, sample standard deviation and count of at least one value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Mean(mean, None, len(values))
    return Mean(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)), len(values))


def paired(values: Mapping[Any, float], baseline: Mapping[Any, float], level: float = 0.95) -> Difference | None:
    """`values` minus `baseline` over the seeds both have; None where they share none.

    Example:
        >>> paired({0: 0.81, 1: 0.83}, {0: 0.80, 1: 0.82}).low is None  # two gains of 0.01 are no proof
        True
    """
    shared = values.keys() & baseline.keys()
    if not shared:
        return None
    found = average([values[seed] - baseline[seed] for seed in shared])
    largest = max(abs(one[seed]) for one in (values, baseline) for seed in shared)
    if found.sd is None or found.sd <= ROUNDING * largest:
        return Difference(found.mean, None, None, found.n)
    error = found.sd / math.sqrt(found.n)
    half = student_quantile((1 + level) / 2, found.n - 1) * error
    p = 2 * (1 - student_cdf(abs(found.mean) / error, found.n - 1))
    return Difference(found.mean, found.mean - half, found.mean + half, found.n, p)


def holm(p: Sequence[float]) -> list[float]:
    """p values so adjusted that marking those below 5% marks any by chance alone in at most 5% of such tables.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6.

    Example:
        >>> [round(one, 3) for one in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    adjusted, least = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        least = max(least, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = least
    return adjusted


def wilson(share: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share in [0, 1] of `count` rows: what other rows of the same kind might have given.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference, JASA 22.

    Example:
        >>> [round(end, 3) for end in wilson(0.567, 120)]
        [0.478, 0.652]
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def student_quantile(p: float, freedom: int) -> float:
    """The point below which Student's t lies with probability `p`, 0.5 <= p < 1, for `freedom` >= 1."""
    low, high = 0.0, 1.0
    while student_cdf(high, freedom) < p:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, freedom) < p else (low, middle)
    return (low + high) / 2


def student_cdf(t: float, freedom: int) -> float:
    """P(T <= t) for t >= 0: the finite sums of Abramowitz and Stegun 26.7.3 (odd freedom) and 26.7.4 (even)."""
    angle = math.atan2(t, math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2 == 1
    term = cosine if odd else 1.0
    total = 0.0
    for k in range((freedom - 1) // 2 if odd else freedom // 2):
        total += term
        term *= cosine**2 * ((2 * k + 2) / (2 * k + 3) if odd else (2 * k + 1) / (2 * k + 2))
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return 0.5 + within / 2
