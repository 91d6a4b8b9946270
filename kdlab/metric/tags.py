"""How good tags are: F1 of entities as conlleval and seqeval count them, and the share of right tags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import final

import torch
from torch import Tensor
from torchmetrics import Metric

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.metric.base import Evaluator
from kdlab.output import Output
from kdlab.task.base import Task

NONE = "O"
PREFIXES = "BIES"  # begin, inside, end, single


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """The kind, the first and the last place of each entity of a sentence.

    An entity begins with ``B-`` or ``S-``, where the kind changes, and with ``I-`` or ``E-`` after ``O`` or an end. So
    IOB1, IOB2 and IOBES are all read, and wrong orders as conlleval does.

    Example:
        >>> sorted(entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"]))
        [('LOC', 3, 3), ('LOC', 4, 4), ('PER', 0, 1)]

    Source: conlleval of CoNLL-2000; seqeval 1.2.2, ``get_entities``, its default mode.
    """
    found, begin, before, kind_before = set(), 0, NONE, ""
    for place, tag in enumerate([*tags, NONE]):
        prefix, _, kind = tag.partition("-")
        changed = kind != kind_before
        ended = before in ("E", "S") or (before in ("B", "I") and (prefix in ("B", "S", NONE) or changed))
        if before != NONE and ended:
            found.add((kind_before, begin, place - 1))
        fresh = before in ("E", "S", NONE)
        if prefix in ("B", "S") or (prefix in ("E", "I") and (fresh or changed)):
            begin = place
        before, kind_before = prefix, kind
    return found


def are_entities(names: Sequence[str]) -> bool:
    """Whether tags are those of entities: ``O``, and others with a prefix such as ``B-``.

    Example:
        >>> are_entities(["O", "B-PER", "I-PER"]), are_entities(["NN", "VB"])
        (True, False)
    """
    marked = [name for name in names if name != NONE]
    return bool(marked) and all(len(name) > 2 and name[0] in PREFIXES and name[1] == "-" for name in marked)


class TagCounts(Metric):
    """``[5]`` counts: entities that are right, true and predicted, and tags that are right and all."""

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(5, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, found: Sequence[int]) -> None:
        self.counts += torch.tensor(found, device=self.counts.device)

    def compute(self) -> Tensor:
        return self.counts


@final
class TagScores(Evaluator):
    """``entity_f1``, ``entity_precision`` and ``entity_recall`` over all entities (micro), where tags are those of
    entities, and ``accuracy``, the share of words with the right tag.

    Args:
        labels: the tags, in the order of the logits.
    """

    higher_is_better = MappingProxyType(
        {"entity_f1": True, "entity_precision": True, "entity_recall": True, "accuracy": True}
    )
    shares = ("accuracy",)
    needs = ("labels",)

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self.names = list(labels)
        self.of_entities = are_entities(self.names)
        self.primary = "entity_f1" if self.of_entities else "accuracy"
        self.counts = TagCounts()

    def setup(self, task: Task, data: Data) -> None:
        if task.unit == "row" or not task.uses_labels:
            raise UserError(
                "metric=tags measures a tag for each word, which the task does not predict: choose "
                "task=token_classification, or metric=classification"
            )
        super().setup(task, data)

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        label = batch.target["label"]
        known = student.mask & (label >= 0)
        predicted = student.logits.argmax(-1)
        for row in range(len(label)):
            some = known[row]
            if some.any():
                self.counts.update(self._counted(predicted[row][some].tolist(), label[row][some].tolist()))

    def _counted(self, predicted: Sequence[int], true: Sequence[int]) -> list[int]:
        """The counts of one sentence."""
        right = sum(one == other for one, other in zip(predicted, true, strict=True))
        if not self.of_entities:
            return [0, 0, 0, right, len(true)]
        own, wanted = (entities([self.names[code] for code in codes]) for codes in (predicted, true))
        return [len(own & wanted), len(wanted), len(own), right, len(true)]

    def compute(self) -> dict[str, float]:
        return dict(self._numbers(*self.counts.compute().tolist()))

    def _numbers(self, hit: int, true: int, predicted: int, right: int, words: int) -> Iterator[tuple[str, float]]:
        if self.of_entities:
            yield "entity_f1", 2 * hit / max(1, true + predicted)
            yield "entity_precision", hit / max(1, predicted)
            yield "entity_recall", hit / max(1, true)
        yield "accuracy", right / words if words else float("nan")
