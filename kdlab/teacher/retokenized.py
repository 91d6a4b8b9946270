"""A teacher with a tokenizer of its own: it reads the same texts in its own tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import final

from kdlab.batch import Batch
from kdlab.datamodule.retokenized import RetokenizedRows
from kdlab.error import UserError
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher


@final
class Retokenized(Teacher):
    """Returns the output of another teacher on the same rows; only taps with one vector for each row can be compared.

    Args:
        teacher: reads batches of ``view``.
        view: the data in the teacher's tokens.

    Raises:
        UserError: the teacher is to read augmented rows, which are made of the student's tokens.
    """

    reads_new_rows = False

    def __init__(self, teacher: Teacher, view: RetokenizedRows) -> None:
        if view.augmented:
            raise UserError(
                "datamodule.augment.teacher=augmented changes the student's tokens, and the teacher has a tokenizer of "
                "its own: use datamodule.augment.teacher=clean, or a student with the teacher's tokenizer"
            )
        self.teacher, self.view = teacher, view
        self.seconds = teacher.seconds

    def read(self, task: Task, batch: Batch) -> Output:
        output = self.teacher.read(task, self.view.again(batch))
        return replace(output, tokens=batch.tokens)

    def widths(self) -> Mapping[str, int]:
        return self.teacher.widths()


def by_row(taps: Collection[str]) -> set[str]:
    """Those of the taps that have one vector for each row, whatever the tokens are.

    Example:
        >>> by_row(["pooled", "hidden.-1"])
        {'pooled'}
    """
    return {tap for tap in taps if tap == "pooled" or tap.startswith("logits.")}
