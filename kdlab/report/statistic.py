"""Means over seeds and the interval of a paired difference, without scipy (which the tests compare with)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mean:
    """A mean over seeds; `sd` is the sample standard deviation (n - 1), None for one value."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """The mean difference of pairs and its two-sided Student interval; `low` and `high` are None for one pair."""

    mean: float
    low: float | None
    high: float | None
    n: int


def average(values: Sequence[float]) -> Mean:
    """Mean, sample standard deviation and count of at least one value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Mean(mean, None, len(values))
    return Mean(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)), len(values))


def paired(ours: Mapping[Any, float], theirs: Mapping[Any, float], level: float = 0.95) -> Difference | None:
    """`ours` minus `theirs` over the seeds both have; None where they share none."""
    shared = ours.keys() & theirs.keys()
    if not shared:
        return None
    found = average([ours[seed] - theirs[seed] for seed in shared])
    if found.sd is None:
        return Difference(found.mean, None, None, 1)
    half = student_quantile((1 + level) / 2, found.n - 1) * found.sd / math.sqrt(found.n)
    return Difference(found.mean, found.mean - half, found.mean + half, found.n)


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
