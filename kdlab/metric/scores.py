"""An evaluator made of torchmetrics' metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from torchmetrics import Metric, MetricCollection

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.base import Processor
from kdlab.direction import declared
from kdlab.metric.base import Evaluator
from kdlab.output import Output
from kdlab.task.base import Task


class Informed(Metric, ABC):
    """A metric in a collection that has to know how values became inputs before it can measure."""

    ready: bool = False  # whether the processor has what it needs; else the metric is left out

    @abstractmethod
    def learn(self, processor: Processor) -> None:
        """Take what it needs from the processor of the data."""


@final
class Scores(Evaluator):
    """A collection of torchmetrics' metrics, fed with predictions and targets as the task gives them.

    Args:
        metrics: by name; the primary one is that of its attribute ``primary``, else the first by name.
    """

    needs = ("labels",)

    def __init__(self, metrics: MetricCollection) -> None:
        super().__init__()
        self.metrics = metrics
        self.higher_is_better = declared(metrics)
        self.primary = getattr(metrics, "primary", None) or next(iter(self.higher_is_better), None)
        self.shares = [name for name, one in _named(metrics) if getattr(one, "share", False)]

    def setup(self, task: Task, data: Data) -> None:
        super().setup(task, data)
        self.learn(data.processor)

    def learn(self, processor: Processor) -> None:
        """Give the metrics what they need to know of how values become inputs."""
        for _, one in _named(self.metrics):
            if isinstance(one, Informed):
                one.learn(processor)

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        self.metrics.update(*self.task.scored(student, batch))

    def compute(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.metrics.compute().items() if name not in self._unknown}

    @property
    def _unknown(self) -> set[str]:
        """The names of those that the data lacks something for."""
        return {name for name, one in _named(self.metrics) if isinstance(one, Informed) and not one.ready}


def _named(metrics: MetricCollection) -> list[tuple[str, Metric]]:
    return list(metrics.items(keep_base=True))
