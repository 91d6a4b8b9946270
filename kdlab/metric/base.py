"""What is measured of a model on a split: an evaluator, and a list of them."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import final

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.base import Processor
from kdlab.direction import COLUMNS, COSTS, PRIMARIES, SHARES, SIGNATURES, Directions, declared
from kdlab.error import UserError
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.task.generative import GenerativeTask

MOMENTS = ("val", "test", "evaluate")
NEEDS = ("labels", "teacher", "gradients", "generation", "groups")


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
            ``groups``: it reads a column of the data besides values and labels, see ``data.column(name)``.
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


@final
class Evaluators(nn.Module):
    """The list of a run.

    Args:
        parts: by name in the config, in order.

    Raises:
        UserError: two measure something of the same name, or one asks for what there is not.
    """

    def __init__(self, parts: Mapping[str, Evaluator]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.ready = False
        self.seen: set[str] = set()  # of the parts, those that took in a batch
        owner: dict[str, str] = {}
        for name, one in self.items():
            for where, words, known in (("when", one.when, MOMENTS), ("needs", one.needs, NEEDS)):
                if odd := sorted(set(words) - set(known)):
                    raise UserError(f"metric.{name}.{where} has '{odd[0]}': choose among {', '.join(known)}")
            for metric in one.higher_is_better:
                if metric in owner:
                    raise UserError(
                        f"metric.{owner[metric]} and metric.{name} both measure '{metric}': leave one of them out"
                    )
                owner[metric] = name

    def items(self) -> Iterator[tuple[str, Evaluator]]:
        """Name and evaluator, in order."""
        for name, one in self.parts.items():
            assert isinstance(one, Evaluator)
            yield name, one

    def chosen(self, moment: str | None = None, without: Collection[str] = ()) -> Evaluators:
        """Copies, with counts of their own, of those that are used at a moment and need nothing of ``without``.

        To be called before :meth:`setup`, after which they may hold the data.
        """
        return Evaluators(
            {
                name: copy.deepcopy(one)
                for name, one in self.items()
                if (moment is None or moment in one.when) and not set(without) & set(one.needs)
            }
        )

    def generating(self, moment: str) -> Evaluators:
        """Likewise those for which the model generates."""
        found = self.chosen(moment, without=("teacher", "gradients"))
        return Evaluators({name: one for name, one in found.items() if "generation" in one.needs})

    @property
    def higher_is_better(self) -> dict[str, bool | None]:
        """Of all of them."""
        return {name: more for _, one in self.items() for name, more in one.higher_is_better.items()}

    def primaries(self, without: Collection[str] = ()) -> list[str]:
        """The primary metric of each that has one and needs nothing of ``without``, in order."""
        return [one.primary for _, one in self.items() if one.primary is not None and not set(without) & set(one.needs)]

    @property
    def generates(self) -> bool:
        """Whether the model generates for one of them."""
        return any("generation" in one.needs for _, one in self.items())

    @property
    def gradients(self) -> bool:
        """Whether one of them needs a graph."""
        return any("gradients" in one.needs for _, one in self.items())

    @property
    def named(self) -> dict[str, list[str] | dict[str, str]]:
        """What a run records of them beside their directions, for those who read its results."""
        shown = [name for number, (_, one) in enumerate(self.items()) for name in one.shown(first=number == 0)]
        costs = {name: kind for _, one in self.items() for name, kind in one.costs.items()}
        signatures = {name: text for _, one in self.items() for name, text in one.signatures().items()}
        found: dict[str, list[str] | dict[str, str]] = {
            PRIMARIES: self.primaries(),
            COLUMNS: shown,
            SHARES: self.shares,
        }
        found[COSTS] = costs
        return found | ({SIGNATURES: signatures} if signatures else {})

    @property
    def shares(self) -> list[str]:
        """The names of what is a mean of 0 and 1 over rows."""
        return [name for _, one in self.items() for name in one.shares]

    def setup(self, task: Task, data: Data) -> None:
        """See :meth:`Evaluator.setup`.

        Raises:
            UserError: the task or the data lacks what one needs.
        """
        if self.ready:
            return
        self.ready = True
        for name, one in self.items():
            if "generation" in one.needs and not isinstance(task, GenerativeTask):
                raise UserError(f"metric.{name} measures generated rows, which task={task.kind} does not have")
            one.setup(task, data)

    def learn(self, processor: Processor) -> None:
        """See :meth:`Evaluator.learn`."""
        for _, one in self.items():
            one.learn(processor)

    def try_on(self, task: Task, data: Data, model: nn.Module) -> None:
        """Refuse a model that one of them cannot measure, before anything is trained; for copies of their own.

        Raises:
            UserError: such a model.
        """
        own = self.chosen()
        own.setup(task, data)
        for _, one in own.items():
            one.check(model)

    def update(
        self,
        student: Output,
        batch: Batch,
        teacher: Output | None = None,
        labelled: bool = True,
        apart: bool = False,
    ) -> None:
        """Give a batch to all that can take it in.

        Args:
            labelled: whether its rows have labels.
            apart: to those that read the model themselves, see :meth:`read`; otherwise to the others.
        """
        for name, one in self.items():
            lacks = ("labels" in one.needs and not labelled) or ("teacher" in one.needs and teacher is None)
            if lacks or reads(one) != apart:
                continue
            one.update(student, batch, teacher) if "teacher" in one.needs else one.update(student, batch)
            self.seen.add(name)

    def read(self, task: Task, model: nn.Module, batch: Batch, teacher: Output | None, labelled: bool) -> None:
        """Run the model for those that need gradients or taps, and give them the batch."""
        own = [one for _, one in self.items() if reads(one)]
        if not own:
            return
        taps = {tap for one in own for tap in one.taps}
        if self.gradients:
            with torch.inference_mode(False), torch.enable_grad(), learnable(model):
                batch = batch.map(Tensor.clone)  # of tensors that were made in inference mode no graph is built
                self.update(task.read(model, batch, taps), batch, _graphless(teacher), labelled, apart=True)
        else:
            self.update(task.read(model, batch, taps), batch, teacher, labelled, apart=True)

    def finish(self, model: nn.Module, teacher: nn.Module | None = None) -> None:
        """See :meth:`Evaluator.finish`."""
        for _, one in self.items():
            one.finish(model, teacher)

    def samples(self) -> list[dict[str, str | int]]:
        """The samples of all of them."""
        return [line for _, one in self.items() for line in one.samples()]

    def seconds(self, model: nn.Module, split: str) -> float:
        """See :meth:`Evaluator.seconds`."""
        return sum(one.seconds(model, split) for _, one in self.items())

    def examine(self, model: nn.Module, data: Data, batches: Sequence[Batch] = ()) -> dict[str, float]:
        """What all of them measure of a model as such, see :meth:`Evaluator.examine`."""
        return {name: value for _, one in self.items() for name, value in one.examine(model, data, batches).items()}

    def compute(self) -> dict[str, float]:
        """The numbers of those that took in a batch."""
        return {name: value for part, one in self.items() if part in self.seen for name, value in one.compute().items()}

    def reset(self) -> None:
        """Forget all batches."""
        self.seen.clear()
        with torch.inference_mode(False):  # counts that were made in inference mode could not be added to with a graph
            for _, one in self.items():
                one.reset()


def reads(one: Evaluator) -> bool:
    """Whether an evaluator needs the model to be run for it: with a graph, or for taps."""
    return bool(one.taps) or "gradients" in one.needs


def _graphless(output: Output | None) -> Output | None:
    return None if output is None else replace(output, logits=output.logits.clone())


@contextmanager
def learnable(model: nn.Module) -> Iterator[None]:
    """With gradients for all parameters, frozen ones too, so that what is computed of them has a graph."""
    still = [one for one in model.parameters() if not one.requires_grad and one.is_floating_point()]
    for one in still:
        one.requires_grad_(True)
    try:
        yield
    finally:
        for one in still:
            one.requires_grad_(False)
