"""Trains a student with a frozen teacher."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.batch import Batch
from kdlab.module.teacher_rule import TeacherRule


@final
class Distill(TeacherRule):
    """The distillation rule: student and teacher read the batch, and the objective compares their outputs.

    Example: one step without a trainer; a copy of the teacher has nothing to learn from it:
        >>> import copy
        >>> import torch
        >>> from torch import nn
        >>> from kdlab.freeze.none import Nothing
        >>> from kdlab.loss.logit.kl import KL
        >>> from kdlab.loss.objective import Objective
        >>> from kdlab.metric.evaluators import Evaluators
        >>> from kdlab.model.family.stack import Stack
        >>> from kdlab.module.parts import TeacherParts
        >>> from kdlab.task.sequence_classification import SequenceClassification
        >>> from kdlab.teacher.base import Teacher
        >>> class Net(nn.Module):
        ...     family = Stack("layers")
        ...
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layers, self.classifier = nn.Sequential(nn.Linear(4, 3)), nn.Linear(3, 2)
        ...
        ...     def forward(self, features):
        ...         return self.classifier(self.layers(features))
        >>> class Model(Teacher):
        ...     model = Net()
        ...
        ...     def read(self, task, batch):
        ...         return task.read(self.model, batch)
        ...
        ...     def widths(self):
        ...         return {}
        >>> task, teacher = SequenceClassification(), Model()
        >>> task.prepare(["bad", "good"], [1, 1])
        >>> student, loss = copy.deepcopy(teacher.model), Objective(alpha=1.0, terms={"kl": KL()})
        >>> parts = TeacherParts(
        ...     student, task, torch.optim.AdamW, lambda progress: 1.0, Nothing(), Evaluators({}), teacher, loss
        ... )
        >>> rule = Distill(parts, seed=0)
        >>> batch = Batch(torch.arange(2), {"features": torch.randn(2, 4)}, {"label": torch.tensor([0, 1])})
        >>> rule.training_step(batch, 0).item()
        0.0
    """

    splittable = True
    chunks = True

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        student = self.read(batch)
        teacher = self.teacher.read(self.task, batch)
        total, parts = self.loss.step(self.task, student, teacher, batch, self.progress)
        return self.log_loss(total, parts, batch)
