"""How a model's decisions hold where a text or an image changes a little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.base import Processor
from kdlab.error import UserError
from kdlab.metric.answers import decides
from kdlab.metric.base import Evaluator
from kdlab.metric.perturbation.base import Perturbation
from kdlab.metric.perturbation.find import kind_of, perturbations, perturbed
from kdlab.metric.reader import Reader
from kdlab.metric.writing import gathered, spread
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.value import Count, Part, Seed

PREFIX = "robustness/"
ACCURACY, FLIPPED = f"{PREFIX}accuracy", f"{PREFIX}flipped"


def area(strengths: Sequence[float], values: Sequence[float]) -> float:
    """The mean height of a curve over strengths from 0 on, by trapezoids.

    Args:
        strengths: the first is 0, and each is larger than the one before.
        values: at each.

    Example:
        >>> area([0.0, 0.5, 1.0], [1.0, 0.5, 0.5])
        0.625
    """
    steps = np.diff(strengths) @ (np.array(values[1:]) + np.array(values[:-1])) / 2
    return float(steps / strengths[-1])


@final
class Robustness(Evaluator):
    """Share of flipped decisions and accuracy by perturbation and strength, and the areas under both curves.

    The rows are the same each time, spread over the split. A decision is flipped where it is another than that of the
    same row unchanged.

    Args:
        perturbations: by name; empty: those of kdlab that fit the rows.
        strengths: of the changes, in (0, 1]; 0 is always measured.
        rows: most rows of a split that are changed; None: all.
        seed: of the changes.

    Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, section 4 (means over kinds and strengths of changes).
    """

    needs = ("model",)
    primary = ACCURACY
    found: tuple[dict[int, float], dict[tuple[str, float], dict[int, tuple[float, float]]]]

    def __init__(
        self,
        perturbations: Mapping[str, Perturbation] | None = None,
        strengths: Sequence[Part] = (0.05, 0.1, 0.2),
        rows: Count | None = 256,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.strengths = (0.0, *sorted(set(strengths)))
        if len(self.strengths) < 2:
            raise UserError("metric.robustness.strengths is empty: list numbers above 0, such as [0.05,0.1,0.2]")
        self.given = dict(perturbations or {})
        for name, one in self.given.items():
            if not isinstance(one, Perturbation):
                raise UserError(
                    f"metric.robustness.perturbations.{name} is no perturbation: choose one of the group "
                    f"metric/perturbation, such as +metric/perturbation@metric.robustness.perturbations.{name}=typos"
                )
        self.limit, self.seed = rows, seed
        self.higher_is_better = {ACCURACY: True, FLIPPED: False}
        for name in self.given or _own():
            for strength in self.strengths[1:]:
                self.higher_is_better |= {_at(name, "accuracy", strength): True, _at(name, "flipped", strength): False}
            self.higher_is_better |= {f"{PREFIX}{name}/area": True}
        self.reset()

    def accept(self, task: Task) -> None:
        if not decides(task) or task.unit != "row":
            raise UserError(
                f"metric=robustness compares one decision for each row, which task={task.kind} does not make: leave it "
                "out"
            )

    def setup(self, task: Task, data: Data) -> None:
        super().setup(task, data)
        self.data, self.reader = data, Reader(task, data)
        kind = kind_of(next(iter(data.values), None), data.processor)
        offered = self.given or {name: make() for name, make in perturbations().items()}
        self.chosen = {name: one for name, one in offered.items() if one.reads == kind}
        if odd := sorted(set(self.given) - set(self.chosen)):
            raise UserError(
                f"metric.robustness.perturbations.{odd[0]} changes a value of the kind {self.given[odd[0]].reads}, "
                f"and {data.source} has {kind or 'other'} rows: leave it out"
            )
        if not self.chosen:
            raise UserError(
                f"metric=robustness changes texts and images, and {data.source} has other rows: give it a perturbation "
                "of your own (kdlab help guide/evaluators)"
            )
        self.rows = {row for index in data.splits.values() for row in spread(index, self.limit)}

    def learn(self, processor: Processor) -> None:
        self.reader = Reader(self.task, self.data, processor)

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        self.met.update(self.rows.intersection(batch.row.tolist()))

    def finish(self, model: nn.Module, teacher: nn.Module | None = None) -> None:
        rows = sorted(self.met)
        if not rows:
            return
        codes = torch.from_numpy(self.data.target.codes[rows])
        known = codes >= 0 if codes.ndim == 1 else (codes >= 0).all(-1)
        plain = self._decisions(model, rows, None, "", 0.0)
        self.found = dict(zip(rows, _each(plain == codes, known), strict=True)), {}
        for name, one in self.chosen.items():
            for strength in self.strengths[1:]:
                decided = self._decisions(model, rows, one, name, strength)
                right = _each(decided == codes, known)
                flipped = _each(decided != plain, torch.ones_like(known))
                self.found[1][name, strength] = dict(zip(rows, zip(flipped, right, strict=True), strict=True))

    def _decisions(
        self, model: nn.Module, rows: Sequence[int], one: Perturbation | None, name: str, strength: float
    ) -> Tensor:
        """``[N]`` class numbers, or yes and no ``[N, C]``."""
        values = [self.data.values[row] for row in rows]
        if one is not None:
            changed = zip(values, rows, strict=True)
            values = [perturbed(one, name, value, strength, self.seed, row) for value, row in changed]
        return self.task.outcome.chosen(self.reader.logits(model, values)).long()

    def compute(self) -> dict[str, float]:
        plain: dict[int, float] = {}
        changed: dict[tuple[str, float], dict[int, tuple[float, float]]] = {}
        for own, others in gathered(self.found):
            plain |= own
            for key, values in others.items():
                changed.setdefault(key, {}).update(values)
        if not plain:
            return {}
        before = _mean(list(plain.values()))
        found: dict[str, float] = {}
        heights, shares = [], []
        for name in self.chosen:
            curves = {0.0: (0.0, before)}
            for strength in self.strengths[1:]:
                flipped, right = zip(*changed[name, strength].values(), strict=True)
                curves[strength] = _mean(flipped), _mean(right)
                found |= {
                    _at(name, kind, strength): value
                    for kind, value in zip(("flipped", "accuracy"), curves[strength], strict=True)
                }
            flips, rights = zip(*curves.values(), strict=True)
            found[f"{PREFIX}{name}/area"] = area(self.strengths, rights)
            heights.append(found[f"{PREFIX}{name}/area"])
            shares.append(area(self.strengths, flips))
        found = {ACCURACY: _mean(heights), FLIPPED: _mean(shares)} | found
        return {name: value for name, value in found.items() if value == value}

    def shown(self, first: bool) -> list[str]:
        return [ACCURACY, FLIPPED] if first else [ACCURACY]

    def reset(self) -> None:
        super().reset()
        self.met: set[int] = set()
        self.found = {}, {}


def _own() -> list[str]:
    return list(perturbations())


def _at(name: str, kind: str, strength: float) -> str:
    return f"{PREFIX}{name}/{kind}_{strength:g}"


def _each(same: Tensor, known: Tensor) -> list[float]:
    """A number for each row, the mean over its labels where it has several; NaN where it is not known."""
    values = same.double() if same.ndim == 1 else same.double().mean(-1)
    return values.where(known, torch.nan).tolist()


def _mean(values: Sequence[float]) -> float:
    """The mean of those that are known; NaN where none is."""
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")
