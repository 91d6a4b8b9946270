"""What evaluators measure of a trained model on batches, whose logits are known already."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.base import Processor
from kdlab.metric.evaluators import Evaluators
from kdlab.task.base import Task


def measure(
    evaluators: Evaluators,
    task: Task,
    data: Data,
    model: nn.Module | None,
    batches: Sequence[Batch],
    logits: Tensor,
    teacher: Tensor | None = None,
    processor: Processor | None = None,
    teacher_model: nn.Module | None = None,
) -> dict[str, float]:
    """The numbers of those that measure in an evaluation.

    Args:
        evaluators: of the run, before :meth:`Evaluators.setup`.
        data: where the rows are from.
        model: for those that need it, gradients or taps; None: only its logits are left, and these are left out.
        batches: of the rows, in the tokens of the model.
        logits: ``[N, C]``, of all rows of the batches in their order, or of all their tokens.
        teacher: likewise of its teacher; None: there is none.
        processor: how the rows of the model were made, where not as the data's.
        teacher_model: of its teacher, where that reads the same rows.
    """
    without = ["teacher"] * (teacher is None) + ["gradients", "model"] * (model is None)
    own, start = evaluators.chosen("evaluate", without), 0
    own.setup(task, data)
    if processor is not None:
        own.learn(processor)
    if model is not None:
        model.eval()
    for batch in batches:
        count = len(batch) if task.unit == "row" or batch.tokens is None else int(batch.tokens.sum())
        part = slice(start, start := start + count)
        labelled = batch.size.get("labelled", 1.0) > 0
        other = None if teacher is None else task.frame(_placed(teacher[part], task, batch), batch)
        own.update(task.frame(_placed(logits[part], task, batch), batch), batch, other, labelled)
        if model is not None:
            with torch.inference_mode():
                own.read(task, model, batch, other, labelled)
    if model is not None:
        own.finish(model, teacher_model)
    return own.compute()


def _placed(logits: Tensor, task: Task, batch: Batch) -> Tensor:
    """The logits of a batch as its model gives them: ``[B, C]``, or ``[B, L, C]`` with 0 at the padding."""
    if task.unit == "row" or batch.tokens is None:
        return logits
    spread = logits.new_zeros(*batch.tokens.shape, logits.shape[-1])
    spread[batch.tokens] = logits
    return spread
