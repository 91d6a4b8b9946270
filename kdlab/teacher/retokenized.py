"""A teacher whose tokens are not the student's: it reads the same texts in its own."""

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
    """Hands on what another teacher says of the same rows; only what is one vector a row can be compared.

    Args:
        teacher: reads batches of ``view``.
        view: the data in the teacher's tokens.

    Raises:
        UserError: the teacher should read what augmentation made of the student's tokens.
    """

    def __init__(self, teacher: Teacher, view: RetokenizedRows) -> None:
        if view.augmented:
            raise UserError(
                "datamodule.augment.teacher=augmented changes the student's tokens, and the teacher has a tokenizer of "
                "its own: use datamodule.augment.teacher=clean, or a student with the teacher's tokenizer"
            )
        self.teacher, self.view = teacher, view
        self.seconds = teacher.seconds

    def read(self, task: Task, batch: Batch) -> Output:
        said = self.teacher.read(task, self.view.again(batch))
        return replace(said, tokens=batch.tokens)

    def widths(self) -> Mapping[str, int]:
        return self.teacher.widths()


def by_row(taps: Collection[str]) -> set[str]:
    """Those of the taps that have one vector a row, whatever the tokens are."""
    return {tap for tap in taps if tap == "pooled" or tap.startswith("logits.")}
