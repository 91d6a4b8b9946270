"""A teacher of tokens with a tokenizer of its own: it reads the same texts in its own tokens, which are aligned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import final

import torch

from kdlab.alignment import Alignment
from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.datamodule.retokenized import RetokenizedRows
from kdlab.error import UserError
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher


@final
class Aligned(Teacher):
    """Returns the output of another teacher on the same texts, and which of its positions are about which of the
    student's.

    Args:
        teacher: reads batches of ``view``.
        view: the data in the teacher's tokens.
        data: the same in the student's.

    Raises:
        UserError: the student reads augmented rows, or the processors do not know where tokens are in a text.
    """

    other_tokens = True
    reads_new_rows = False

    def __init__(self, teacher: Teacher, view: RetokenizedRows, data: Data) -> None:
        if data.augment is not None:
            raise UserError(
                "datamodule.augment changes the student's tokens, and the teacher has other tokens, with which they "
                "could not be aligned: leave it out, or use a student with the teacher's tokenizer"
            )
        self.teacher, self.view, self.data, self.processor = teacher, view, data, view.processor
        self.pairs = data.processor.same_words(view.processor)
        self.student_ends = data.processor.ends_of_tokens(data.values, data.fingerprint)
        self.teacher_ends = view.processor.ends_of_tokens(data.values, view.fingerprint)
        self.seconds = teacher.seconds

    def read(self, task: Task, batch: Batch) -> Output:
        rows = batch.row.tolist()
        self._same_texts(batch)
        ends = [self.student_ends(row) for row in rows], [self.teacher_ends(row) for row in rows]
        found = Alignment.of(*ends, self.pairs).map(lambda values: values.to(batch.device))
        return replace(self.teacher.read(task, self.view.again(batch)), alignment=found)

    def _same_texts(self, batch: Batch) -> None:
        """Refuse rows whose tokens are not those of the data's texts, such as what a student wrote."""
        inputs, _ = self.data.encoded_rows().rows.collate(batch.row.cpu().numpy())
        for name, values in inputs.items():
            if not torch.equal(batch.inputs[name].cpu(), values):
                raise UserError(
                    "the student reads other tokens than those of the data's texts, and the teacher has another "
                    "tokenizer, so it could not read them: use a student with the teacher's tokenizer"
                )

    def widths(self) -> Mapping[str, int]:
        return self.teacher.widths()
