"""Easy rows first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import ceil
from typing import final

import numpy as np

from kdlab.error import UserError

MOST = 50  # steps whose rows are chosen, and sorted by length, together
PARTS = 10  # and into how many such groups an epoch is cut at least, where it has as many steps


class Curriculum(ABC):
    """Competence-based learning: a step's rows come from the easiest part of the data, which grows to all of it.

    At moment t of the run, in [0, 1], the easiest ``c(t)`` of the rows are in, where
    ``c(t) = (start^p + (1 - start^p) * t / until)^(1 / p)`` with p = power, and 1 from ``until`` on. The number of
    steps of an epoch does not change: while few rows are in, they come again. Within an epoch, the rows that came least
    often come next; so from ``until`` on, and in a run of one epoch, each row comes once an epoch. For noisy or hard
    data, and for few steps. It costs nothing. All is a function of data, seed, epoch and the length of the run.

    Args:
        start: in (0, 1], which part of the rows is in at first.
        until: in (0, 1], the moment of the run from which all rows are in.
        power: >= 1; 1 grows linearly, 2 is the paper's square root.

    Attributes:
        runs: the trained models that rank the rows by difficulty, by run id, run directory or model directory.
        asks_teacher: whether the run's own teacher ranks them.

    Source: Bengio et al. 2009, Curriculum learning, ICML; Platanios et al. 2019, arXiv:1903.09848, section 3.2 (the
        pace, equation 8; the paper draws rows with replacement).
    """

    runs: tuple[str, ...] = ()
    asks_teacher: bool = False

    def __init__(self, start: float = 0.1, until: float = 0.5, power: float = 2.0) -> None:
        for name, value in (("start", start), ("until", until)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
                raise UserError(f"datamodule.curriculum.{name} is {value}, but must be a part in (0, 1], such as 0.5")
        if isinstance(power, bool) or not isinstance(power, int | float) or not 1 <= power < float("inf"):
            raise UserError(f"datamodule.curriculum.power is {power}, but must be 1 (linear) or more; 2 is common")
        self.start, self.until, self.power = start, until, power

    @abstractmethod
    def difficulty(self, lengths: np.ndarray) -> np.ndarray:
        """``[N]``, the higher the harder, of every row of the data; ``lengths``: their tokens.

        Raises:
            UserError: the rows were not ranked.
        """

    def grade(self, logits: np.ndarray, codes: np.ndarray, rows: np.ndarray, count: int) -> None:  # noqa: B027
        """Rank rows by difficulty from a trained model's logits ``[M, C]`` of ``rows``.

        Args:
            codes: their labels.
            count: number of rows in all.
        """

    @final
    def competence(self, moment: float) -> float:
        """The share of rows that is in."""
        if moment >= self.until:
            return 1.0
        first = self.start**self.power
        return min(1.0, (first + (1 - first) * moment / self.until) ** (1 / self.power))

    @final
    def groups(self, difficulty: np.ndarray, size: int, seed: int, epochs: float, epoch: int) -> list[np.ndarray]:
        """Positions ``0..M-1`` of an epoch, in groups of whole steps that follow each other; M of them in all.

        Args:
            difficulty: ``[M]``.
            size: rows of a step.
            epochs: number of epochs of the run.
        """
        count = len(difficulty)
        steps = max(1, count // size)
        width = max(1, min(MOST, steps // PARTS))
        order = np.lexsort((np.random.default_rng([seed]).random(count), difficulty))
        random, used, groups = np.random.default_rng([seed, epoch, 1]), np.zeros(count), []
        for begin in range(0, steps, width):
            end = min(begin + width, steps)
            rows = (count if end == steps else end * size) - begin * size
            inside = order[: max(rows, ceil(self.competence((epoch + end / steps) / epochs) * count))]
            priority = used[inside] + random.random(len(inside))
            chosen = inside[np.argpartition(priority, rows - 1)[:rows]]
            used[chosen] += 1
            groups.append(np.sort(chosen))
        return groups
