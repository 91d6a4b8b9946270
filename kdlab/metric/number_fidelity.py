"""How closely a student's numbers follow its teacher's, whatever the labels are."""

from __future__ import annotations

from types import MappingProxyType
from typing import final

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.metric.base import Evaluator
from kdlab.metric.regression import regression
from kdlab.outcome import Real
from kdlab.output import Output
from kdlab.task.base import Task

OF = {"mae": "fidelity/difference", "spearman": "fidelity/rank_correlation"}  # by the metric that it is


@final
class NumberFidelity(Evaluator):
    """``fidelity/difference``, the mean absolute one in the unit of the numbers, and ``fidelity/rank_correlation``,
    that of Spearman, on all rows, labelled or not."""

    higher_is_better = MappingProxyType({OF["mae"]: False, OF["spearman"]: True})
    primary = OF["mae"]
    needs = ("teacher",)

    def setup(self, task: Task, data: Data) -> None:
        if not isinstance(task.outcome, Real):
            raise UserError("metric=number_fidelity compares numbers, and the task has classes: choose metric=fidelity")
        super().setup(task, data)
        self.outcome, self.metrics = task.outcome, regression(["number"])

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        assert teacher is not None
        own, other = (self.outcome.chosen(one.logits[one.mask]).squeeze(-1) for one in (student, teacher))
        self.metrics.update(own, other)

    def compute(self) -> dict[str, float]:
        found = self.metrics.compute()
        return {name: float(found[metric]) for metric, name in OF.items()}
