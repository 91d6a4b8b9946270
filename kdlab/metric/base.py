"""What is measured of a model on a split: the base of all evaluators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from torch import nn
from torchmetrics import Metric

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.base import Processor
from kdlab.direction import Directions
from kdlab.output import Output
from kdlab.task.base import Task

MOMENTS = ("val", "test", "evaluate")
NEEDS = ("labels", "teacher", "gradients", "generation", "groups", "model")


class Evaluator(nn.Module, ABC):
    """Takes in a model's outputs on a split, batch by batch, and gives named numbers.

    Metrics of torchmetrics that are its attributes move to the device of the model, are summed over all processes, and
    are reset before each pass over a split. An evaluator that keeps anything else resets it itself.

    Attributes:
        higher_is_better: by name of each number: True, False, or None where neither is better.
        primary: the name of the one that the evaluator is for; None: it has none. The run keeps its best weights by
            the first one of its list.
        shares: the names of those that are a mean of 0 and 1 over rows, so that the number of rows bounds their error.
        costs: the names of those that quality may be drawn against, each with its kind:
            :data:`kdlab.direction.COUNTED`, ``TIMED`` or ``SPENT``.
        when: of ``val``, ``test`` and ``evaluate``.
        needs: of ``labels``: batches without any are left out; ``teacher``: its output is given too, and without a
            teacher nothing is measured; ``gradients``: outputs have a graph; ``generation``: the task generates;
            ``groups``: it reads a column of the data besides values and labels, see ``data.column(name)``; ``model``:
            it runs the model on rows of its own in :meth:`finish`, and where only outputs are left measures nothing.
        taps: which of the student's taps it reads.

    Example: how sure a model is, on average::

        class Sureness(Evaluator):
            higher_is_better = {"sureness": None}

            def __init__(self):
                super().__init__()
                self.mean = torchmetrics.MeanMetric()

            def update(self, student, batch, teacher=None):
                self.mean.update(student.logits.softmax(-1).max(-1).values)

            def compute(self):
                return {"sureness": float(self.mean.compute())}
    """

    higher_is_better: Directions = MappingProxyType({})
    primary: str | None = None
    shares: Collection[str] = ()
    costs: Mapping[str, str] = MappingProxyType({})
    when: Collection[str] = MOMENTS
    needs: Collection[str] = ()
    taps: Collection[str] = ()

    def accept(self, task: Task) -> None:
        """Refuse a task, before any data are read.

        Raises:
            UserError: such a task.
        """

    def setup(self, task: Task, data: Data) -> None:
        """Learn of the task and the data, once, before the first output.

        Raises:
            UserError: they lack what is measured.
        """
        self.task = task

    def learn(self, processor: Processor) -> None:
        """Learn how the measured model's rows were made, where not as the data's; called after :meth:`setup`."""

    @abstractmethod
    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        """Take in a batch.

        Args:
            student: of the rows of the batch; where the task makes some logits at a time, of some positions.
            teacher: likewise, where ``needs`` has ``teacher``.
        """

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The numbers, by the names in :attr:`higher_is_better`."""

    def examine(self, model: nn.Module, data: Data, batches: Sequence[Batch] = ()) -> dict[str, float]:
        """Measure a trained model as such, once, when its run or `kdlab evaluate` ends; by default nothing.

        Args:
            model: on the device that it is measured on.
            data: what it was trained or is evaluated on.
            batches: a few of a split, as the model reads them; empty: none are at hand.

        Returns:
            Numbers by the names in :attr:`higher_is_better`.
        """
        return {}

    def check(self, model: nn.Module) -> None:
        """Refuse a model that cannot be measured, after :meth:`setup` and before anything is trained.

        Raises:
            UserError: such a model.
        """

    def finish(self, model: nn.Module, teacher: nn.Module | None = None) -> None:
        """Do what takes the model itself, such as generating, after the last batch of a split.

        Every process calls it, before :meth:`compute`.

        Args:
            teacher: a frozen teacher that reads the same rows, where there is one.
        """

    def samples(self) -> list[dict[str, str | int]]:
        """Rows of the last split to look at, by the names of columns; by default none."""
        return []

    def seconds(self, model: nn.Module, split: str) -> float:
        """About how long :meth:`finish` takes one process; most do nothing there."""
        return 0.0

    def signatures(self) -> dict[str, str]:
        """How numbers were computed, as their libraries describe it, by name; to be called after :meth:`compute`."""
        return {}

    def shown(self, first: bool) -> list[str]:
        """The names that tables have columns for: all of the first evaluator, and the primary one of the others."""
        if first:
            return [name for name in self.higher_is_better if name not in self.costs]
        return [self.primary] if self.primary else []

    def reset(self) -> None:
        """Forget all batches."""
        for module in self.modules():
            if isinstance(module, Metric):
                module.reset()
