"""How far a rate differs between groups, with an interval of the whole statistic."""

from __future__ import annotations

import numpy as np


def gap(hits: np.ndarray, rows: np.ndarray) -> float:
    """The largest rate less the smallest one; NaN where fewer than two groups have a row.

    Args:
        hits, rows: ``[G]``, of each group.

    Example:
        >>> gap(np.array([8, 5]), np.array([10, 10]))
        0.3
    """
    there = rows > 0
    if there.sum() < 2:
        return float("nan")
    rates = hits[there] / rows[there]
    return float(round(rates.max() - rates.min(), 12))


def interval(
    hits: np.ndarray, rows: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """A bootstrap interval of :func:`gap`, which covers it with the probability ``level`` or more.

    The rows of each group are drawn again. The half width is the quantile of the gap between the deviations that this
    gives, which is the distribution of the gap where all groups have the same rate: 0 is then in the interval at the
    stated rate, also with many groups. Quantiles of the drawn gaps themselves would nearly always lie above 0.

    Args:
        hits, rows: ``[G]``, of each group.

    Returns:
        low and high, in [0, 1]; NaN where fewer than two groups have a row.

    Source: Efron, Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; Hsu 1996, Multiple Comparisons,
        chapter 5 (the range of deviations bounds all pairs at once).

    Example:
        >>> low, high = interval(np.array([80, 80]), np.array([100, 100]))
        >>> low, 0.05 < high < 0.2
        (0.0, True)
    """
    there = rows > 0
    found = gap(hits, rows)
    if found != found:
        return found, found
    hits, rows = hits[there], rows[there]
    drawn = np.random.default_rng(seed).binomial(rows, hits / rows, (draws, len(rows)))
    apart = drawn / rows - hits / rows
    half = float(np.quantile(apart.max(1) - apart.min(1), level))
    return max(0.0, found - half), min(1.0, found + half)
