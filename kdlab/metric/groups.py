"""How differently well groups of rows are served, such as people by sex or texts by source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import numpy as np

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.metric.answers import Answers, decides, together
from kdlab.metric.base import Evaluator
from kdlab.metric.gap import gap, interval
from kdlab.outcome import Bernoulli
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.value import Count, Seed, Share

PREFIX = "groups/"
RATES = ("accuracy", "positive_rate", "tpr", "fpr")
LISTED = 8  # labels or columns that a sentence names


@final
class Groups(Evaluator):
    """Gaps between the groups of a column, each with an interval, and the accuracy of the worst group.

    Rows without a label or a group do not count, and groups of few rows are left out.

    Args:
        column: of the data, whose values are the groups.
        positive: the label that the rates of positive answers are about; None: the last of two labels; of more labels
            only the accuracies are compared.
        least: rows of the smallest group that counts.
        level: of the intervals.
        draws: of the bootstrap.
        seed: of the draws.

    Source: Hardt, Price, Srebro 2016, arXiv:1610.02413, definitions 2.1 and 2.2; Agarwal et al. 2018,
        arXiv:1803.02453 (differences between the largest and the smallest rate).
    """

    needs = ("labels", "groups")
    primary = f"{PREFIX}accuracy_gap"
    parts: list[Answers]

    def __init__(
        self,
        column: str | None = None,
        positive: str | None = None,
        least: Count = 20,
        level: Share = 0.95,
        draws: Count = 2000,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.column, self.positive, self.least = column, positive, least
        self.level, self.draws, self.seed = level, draws, seed
        names = [f"{rate}_gap{end}" for rate in RATES for end in ("", "_low", "_high")]
        self.higher_is_better = {f"{PREFIX}{name}": False for name in names} | {f"{PREFIX}worst_accuracy": True}
        self.reset()

    def accept(self, task: Task) -> None:
        if not decides(task) or task.unit != "row" or isinstance(task.outcome, Bernoulli):
            raise UserError(
                f"metric=groups compares one label a row between groups, which task={task.kind} does not predict, or "
                "not with several labels a row: leave it out"
            )

    def setup(self, task: Task, data: Data) -> None:
        super().setup(task, data)
        if self.column is None:
            raise UserError(
                "metric=groups compares groups of rows: name the column whose values they are with "
                "metric.groups.column=NAME"
            )
        values = data.column(self.column)
        names = sorted({str(value) for value in values if _known(value)})
        if len(names) < 2:
            raise UserError(
                f"the column '{self.column}' of {data.source} has {len(names)} groups, and metric=groups needs two or "
                "more: name another with metric.groups.column=NAME"
            )
        if len(names) * self.least > len(values):
            raise UserError(
                f"the column '{self.column}' of {data.source} has {len(names):,} groups in {len(values):,} rows, so "
                f"that most have fewer than metric.groups.least={self.least} rows: name a column of few values"
            )
        number = {name: place for place, name in enumerate(names)}
        self.group = np.array([number[str(value)] if _known(value) else -1 for value in values])
        self.count, labels = len(names), list(data.labels)
        if self.positive is not None and self.positive not in labels:
            raise UserError(
                f"metric.groups.positive={self.positive} is no label: choose among {', '.join(labels[:LISTED])}"
            )
        self.code = labels.index(self.positive) if self.positive is not None else 1 if len(labels) == 2 else None

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        self.parts.append(Answers.of(student, batch))

    def compute(self) -> dict[str, float]:
        whole = together(self.parts)
        if whole is None:
            return {}
        answers = whole.known
        group = self.group[answers.row.numpy()]
        chosen, label = self.task.outcome.chosen(answers.logits).numpy(), answers.label.numpy()
        found: dict[str, float] = {}
        for rate, of, hit in self._rates(chosen, label):
            rows, hits = (self._counts(group, one) for one in (of, of & hit))
            large = self._counts(group, np.ones_like(of)) >= self.least
            rows, hits = np.where(large, rows, 0), np.where(large, hits, 0)
            low, high = interval(hits, rows, self.level, self.draws, self.seed)
            found |= {f"{rate}_gap": gap(hits, rows), f"{rate}_gap_low": low, f"{rate}_gap_high": high}
            if rate == "accuracy" and rows.any():
                found["worst_accuracy"] = float((hits[rows > 0] / rows[rows > 0]).min())
        return {f"{PREFIX}{name}": value for name, value in found.items() if value == value}

    def _rates(self, chosen: np.ndarray, label: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Of each rate, the rows that it is a share of, and those that count as a hit."""
        yield "accuracy", np.ones(len(label), bool), chosen == label
        if self.code is not None:
            yes = chosen == self.code
            yield "positive_rate", np.ones(len(label), bool), yes
            yield "tpr", label == self.code, yes
            yield "fpr", label != self.code, yes

    def _counts(self, group: np.ndarray, some: np.ndarray) -> np.ndarray:
        """``[G]`` how many of some rows are in each group."""
        return np.bincount(group[some & (group >= 0)], minlength=self.count)

    def reset(self) -> None:
        super().reset()
        self.parts = []


def _known(value: Any) -> bool:
    return value is not None and value == value and str(value).strip() != ""
