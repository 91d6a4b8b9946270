"""The list of evaluators of a run: which measure when, what they share, and how a batch gets to each."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.base import Processor
from kdlab.direction import COLUMNS, COSTS, PRIMARIES, SHARES, SIGNATURES
from kdlab.error import UserError
from kdlab.metric.base import MOMENTS, NEEDS, Evaluator
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.task.generative import GenerativeTask


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
    def runs(self) -> bool:
        """Whether one of them runs the model on rows of its own."""
        return any("model" in one.needs for _, one in self.items())

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
                raise UserError(f"metric.{name} measures generated rows, which task={task.option()} does not have")
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
