"""What a model's decisions are due to: how faithful three explanations are, and whether student and teacher agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.base import Processor
from kdlab.error import UserError
from kdlab.metric.answers import decides
from kdlab.metric.attribute import METHODS, faithfulness, rank_correlation
from kdlab.metric.base import Evaluator
from kdlab.metric.entry import Entry
from kdlab.metric.reader import Reader, still
from kdlab.metric.writing import gathered, spread
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.value import Count, Part

PREFIX = "attribution/"
COMPLETENESS = f"{PREFIX}completeness"
KINDS = {"comprehensiveness": True, "sufficiency": False, "agreement": True}
TOKENS = 2048  # of a batch, padding included


@final
class Attribution(Evaluator):
    """Comprehensiveness, sufficiency and agreement with the teacher of explanations of some rows.

    The class that is explained is the one that the measured model chooses; the teacher's explanation is of the same
    class. Rows do not influence each other.

    Args:
        methods: of ``gradient_x_input``, ``integrated_gradients`` and ``occlusion``.
        rows: most rows of a split, the same ones each time; None: all.
        share: of the units that count as the most important ones.
        steps: points on the line of integrated gradients.
    """

    needs = ("model",)
    found: dict[int, dict[str, float]]

    def __init__(
        self,
        methods: Sequence[str] = tuple(METHODS),
        rows: Count | None = 64,
        share: Part = 0.2,
        steps: Count = 32,
    ) -> None:
        super().__init__()
        if not methods or (odd := sorted(set(methods) - set(METHODS))):
            problem = f"has '{odd[0]}'" if methods else "is empty"
            raise UserError(f"metric.attribution.methods {problem}: choose among {', '.join(METHODS)}")
        self.methods = {name: METHODS[name] for name in methods}
        self.limit, self.share, self.steps = rows, share, steps
        self.higher_is_better = {
            f"{PREFIX}{name}/{kind}": more for name in self.methods for kind, more in KINDS.items()
        }
        self.primary = next(iter(self.higher_is_better))
        if "integrated_gradients" in self.methods:
            self.higher_is_better[COMPLETENESS] = False
        self.reset()

    def accept(self, task: Task) -> None:
        if not decides(task) or task.unit != "row":
            raise UserError(
                f"metric=attribution explains one decision for each row, which task={task.kind} does not make: leave "
                "it out"
            )

    def setup(self, task: Task, data: Data) -> None:
        super().setup(task, data)
        self.data, self.reader = data, Reader(task, data)
        self.rows = {row for index in data.splits.values() for row in spread(index, self.limit)}

    def learn(self, processor: Processor) -> None:
        self.reader = Reader(self.task, self.data, processor)

    def check(self, model: nn.Module) -> None:
        batch = self.reader.rows(sorted(self.rows)[:1])[0].to(next(model.parameters()).device)
        with still(model):
            entry = Entry(self.task, model, batch)
        if entry.values is None:
            raise UserError(
                f"metric=attribution needs word embeddings or pixels that have a gradient, and {type(model).__name__} "
                "names no word embeddings (get_input_embeddings) that it runs once on the tokens: leave it out"
            )

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        self.met.update(self.rows.intersection(batch.row.tolist()))

    def finish(self, model: nn.Module, teacher: nn.Module | None = None) -> None:
        if not self.met:
            return
        device = next(model.parameters()).device
        if teacher is not None:
            teacher.to(device)
        with torch.inference_mode(False):
            for batch in self.reader.rows(sorted(self.met), TOKENS):
                self._explain(model, teacher, batch.to(device).map(Tensor.clone))

    def _explain(self, model: nn.Module, teacher: nn.Module | None, batch: Batch) -> None:
        with still(model):
            entry = Entry(self.task, model, batch)
            if entry.values is None:
                return
            with torch.no_grad():
                whole = entry.logits(entry.values)
                label = whole.argmax(1)
                zero = entry.logits(torch.zeros_like(entry.values)) - whole
            own = {name: method(entry, label, self.steps) for name, method in self.methods.items()}
            values: dict[str, Tensor] = {}
            for name, found in own.items():
                full, enough = faithfulness(entry, found, label, self.share)
                values |= {f"{PREFIX}{name}/comprehensiveness": full, f"{PREFIX}{name}/sufficiency": enough}
            if "integrated_gradients" in own:
                change = zero.gather(1, label[:, None])[:, 0]
                values[COMPLETENESS] = (own["integrated_gradients"].sum(1) + change).abs()
        if teacher is not None:
            values |= self._agreement(teacher, batch, label, own, entry.real)
        for name, some in values.items():
            for row, value in zip(batch.row.tolist(), some.tolist(), strict=True):
                self.found.setdefault(row, {})[name] = value

    def _agreement(
        self, teacher: nn.Module, batch: Batch, label: Tensor, own: dict[str, Tensor], real: Tensor
    ) -> dict[str, Tensor]:
        with still(teacher):
            entry = Entry(self.task, teacher, batch)
            if entry.values is None:
                return {}
            return {
                f"{PREFIX}{name}/agreement": rank_correlation(own[name], method(entry, label, self.steps), real)
                for name, method in self.methods.items()
            }

    def compute(self) -> dict[str, float]:
        together: dict[int, dict[str, float]] = {}
        for part in gathered(self.found):
            together |= part
        found = {}
        for name in self.higher_is_better:
            known = [one[name] for _, one in sorted(together.items()) if one.get(name, torch.nan) == one.get(name)]
            if known:
                found[name] = sum(known) / len(known)
        return found

    def shown(self, first: bool) -> list[str]:
        return list(self.higher_is_better) if first else [str(self.primary)]

    def reset(self) -> None:
        super().reset()
        self.met: set[int] = set()
        self.found = {}
