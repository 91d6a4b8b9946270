"""The validation and test loops of a training rule."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import MetricCollection

from kdlab.batch import Batch
from kdlab.loss.chunk import parts
from kdlab.metric.evaluators import Evaluators
from kdlab.module.forward import Forward, FullForward
from kdlab.output import Output
from kdlab.task.base import Task


class Measured(dict[str, Evaluators]):
    """Evaluators by the prefix of the names under which their values are logged."""

    def reset(self) -> None:
        for one in self.values():
            one.reset()

    def compute(self) -> dict[str, float]:
        """The numbers of all evaluators that have seen a batch, by name with its prefix."""
        return {f"{prefix}{name}": value for prefix, one in self.items() for name, value in one.compute().items()}


class Evaluation(LightningModule, ABC):
    """A model and the evaluators of its validation and its test.

    Attributes:
        has_teacher: whether evaluators are given a teacher's output too.
        test_counts: counts the test's predictions by class, where a run asks for it.
        test_confusion: these counts after the test.
    """

    has_teacher: bool = False

    def __init__(self, model: nn.Module, task: Task, metric: Evaluators) -> None:
        super().__init__()
        self.model = model
        self.forward_pass: Forward = FullForward(model)
        self.task = task
        without = () if self.has_teacher else ("teacher",)
        self.evaluators = {split: metric.chosen(split, without) for split in ("val", "test")}
        self._registered = nn.ModuleList(self.evaluators.values())  # their counts move to the device of the model
        self.test_counts: MetricCollection | None = None
        self.test_confusion: Tensor | None = None

    @property
    def frozen_teacher(self) -> nn.Module | None:
        """A teacher's model that does not change and reads the same batches, where there is one."""
        return None

    @abstractmethod
    def read(self, batch: Batch) -> Output:
        """The student's output on a batch."""

    def primary(self, labelled: bool = True) -> str:
        """The validation metric that decides: that of the first evaluator that has one, else the loss.

        Args:
            labelled: whether validation rows have labels; if not, the evaluators that need none count alone.
        """
        labelled = labelled or not self.task.uses_labels
        found = self.evaluators["val"].primaries(without=() if labelled else ("labels",))
        return f"val/{found[0]}" if found else "val/loss"

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluation_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluation_step(batch, "test")

    def on_validation_epoch_start(self) -> None:
        self.measured("val").reset()

    def on_test_epoch_start(self) -> None:
        self.measured("test").reset()

    def on_validation_epoch_end(self) -> None:
        self.evaluators["val"].finish(self.model, self.frozen_teacher)
        self.log_dict(self.measured("val").compute())

    def on_test_epoch_end(self) -> None:
        self.evaluators["test"].finish(self.model, self.frozen_teacher)
        self.log_dict(self.measured("test").compute())
        if self.test_counts is not None:
            self.test_confusion = self.test_counts.compute()["confusion"].cpu()

    def measured(self, split: str) -> Measured:
        """The evaluators of a split, by the prefix of their names: those of the student, and of a subclass."""
        return Measured({f"{split}/": self.evaluators[split]})

    def evaluation_step(self, batch: Batch, split: str) -> Output:
        """Score one batch of a split."""
        student, count, labelled = self.read(batch), self.counted(batch), self.scores(batch)
        teacher = self.answer(batch)
        evaluators, counts = self.evaluators[split], self.test_counts if split == "test" else None
        loss = torch.zeros((), device=student.mask.device)
        for part, *others in parts(self.task.chunk, student, *([] if teacher is None else [teacher])):
            evaluators.update(part, batch, others[0] if others else None, labelled)
            self.also(batch, split, *others)
            if labelled:
                loss = loss + self.task.supervised(part, batch)
            if labelled and counts is not None:
                counts.update(*self.task.scored(part, batch))
        evaluators.read(self.task, self.model, batch, teacher, labelled)
        if labelled:
            self.log(f"{split}/loss", loss, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        return student

    def answer(self, batch: Batch) -> Output | None:
        """The teacher's output on a batch, where there is a teacher."""
        return None

    def also(self, batch: Batch, split: str, *teacher: Output) -> None:
        """Update other evaluators than the student's on a batch, or on some positions of it."""

    def scores(self, batch: Batch) -> bool:
        """Whether a batch can be scored: either all batches of a split have labels, or none."""
        return not self.task.uses_labels or batch.size.get("labelled", 1.0) > 0

    def counted(self, batch: Batch) -> int:
        """The weight of a batch in the mean over a split: the number of its predictions."""
        return max(1, int(batch.size.get(self.task.counts, len(batch))))
