"""A teacher that reads more than its student: a system prompt, or a hint for each row, before the same answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.batch import ANSWER, Batch
from kdlab.datamodule.answered import AnsweredRows
from kdlab.datamodule.batch import EncodedRows
from kdlab.datamodule.chat_data import ChatData
from kdlab.datamodule.data import Data
from kdlab.datamodule.dialogue import Dialogue, Message
from kdlab.datamodule.processor.chat import Chat
from kdlab.datamodule.retokenized import RetokenizedRows
from kdlab.error import UserError
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.task.generative import GenerativeTask
from kdlab.teacher.base import Teacher
from kdlab.teacher.live import Live
from kdlab.top_k import TEMPERATURES
from kdlab.value import Count, Positive

COLUMN = re.compile(r"\{([^{}]+)\}")
WHOLE = 2**30  # tokens: the teacher's rows are not cut


@final
class Privileged(Teacher):
    """Runs on dialogues with a system prompt of its own, and returns its output at the student's positions.

    Both read the same answers, those of the data or what the student wrote; only the tokens of answers are compared.

    Args:
        model: the trained teacher, such as the student before it learns.
        task: reads it.
        data: dialogues, none of which is cut.
        taps: must be empty.
        store: not used; every teacher is given the folder of all stores.
        system: a text that is added to the system prompt of each dialogue; ``{NAME}`` is the row's value of a column.
        top_k, temperatures: see :class:`kdlab.teacher.live.Live`.

    Raises:
        UserError: rows that are no dialogues, are cut or packed, are too long for the teacher, or have other answers
            with the system prompt.

    Source: Snell et al. 2022 (context distillation), arXiv:2209.15189; Askell et al. 2021, arXiv:2112.00861, section
        2.
    """

    chunks = True

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        data: Data | RetokenizedRows,
        taps: Collection[str],
        store: Path,
        system: str,
        top_k: Count | None = None,
        temperatures: Sequence[Positive] = TEMPERATURES,
    ) -> None:
        if not isinstance(data, ChatData) or not isinstance(task, GenerativeTask):
            raise unreadable("privileged")
        self.data, self.task, self.top_k = data, task, top_k
        self.view = informed(data, system)
        check_room(model, self.view)
        self.live = Live(model, task, data, (), store, top_k, temperatures)

    @classmethod
    def accept(cls, taps: Collection[str]) -> None:
        only_logits("privileged", taps)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        return self.live.models

    def read(self, task: Task, batch: Batch) -> Output:
        found = self.live.read(task, self.informed_batch(batch))
        assert batch.tokens is not None
        return moved(found, task.frame(batch.tokens[..., None], batch))

    def informed_batch(self, batch: Batch) -> Batch:
        """The same answers after the teacher's prompts."""
        given, _ = self.data.encoded_rows().rows.collate(batch.row.cpu().numpy())
        own = self.view.again(batch)
        if all(torch.equal(batch.inputs[name].cpu(), values) for name, values in given.items()):
            return own
        return self.task.with_answers(own, self.task.reference(batch))

    def widths(self) -> Mapping[str, int]:
        return {}


def unreadable(option: str) -> UserError:
    """The mistake of rows or a task that a teacher with a system prompt of its own cannot read."""
    return UserError(
        f"teacher={option} reads dialogues in the student's tokens: choose datamodule=chat with task=causal_lm, and a "
        "teacher with the student's tokenizer"
    )


def only_logits(option: str, taps: Collection[str]) -> None:
    """Refuse taps, whose positions are not the student's.

    Raises:
        UserError: there is one.
    """
    if taps:
        raise UserError(f"teacher={option} offers logits only, and no '{min(taps)}'; leave this term out")


def check_room(model: nn.Module, view: RetokenizedRows) -> None:
    """Refuse rows that are longer than what the teacher can read.

    Raises:
        UserError: there is one.
    """
    positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    longest = int(view.lengths.max(initial=0))
    if positions is not None and longest > positions:
        raise UserError(
            f"teacher.system makes a row of {longest} tokens, but {type(model).__name__} has {positions} positions: "
            "shorten it, or set a smaller datamodule.max_length with datamodule.long=drop"
        )


def moved(output: Output, frame: Output) -> Output:
    """An output with its predictions at the positions of another one that has as many of them in each row.

    Args:
        output: logits ``[B, L, C]``.
        frame: for the same rows, with a mask ``[B, M]``.

    Returns:
        logits ``[B, M, C]``, 0 where nothing is predicted.

    Example:
        >>> wide = Output(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[False, True, True]]))
        >>> moved(wide, Output(torch.zeros(1, 2, 1), torch.tensor([[True, True]]))).logits.flatten().tolist()
        [2.0, 3.0]
    """
    if not torch.equal(output.mask.sum(1), frame.mask.sum(1)):
        raise UserError("the teacher's rows have other numbers of answered tokens than the student's: use whole rows")

    def at(values: Tensor) -> Tensor:
        found = values.new_zeros(*frame.mask.shape, *values.shape[2:])
        found[frame.mask] = values[output.mask]
        return found

    top = None if output.top is None else output.top.map(at)
    return replace(frame, logits=at(output.logits), head=output.head, top=top)


def informed(data: ChatData, system: str) -> RetokenizedRows:
    """The rows of a data set after a system prompt that has more in it, not cut.

    Raises:
        UserError: a row is cut, a column is not there, or the chat template writes an answer in another way.
    """
    own, processor = data.encoded_rows().rows, data.processor
    assert isinstance(processor, Chat)
    if not isinstance(own, AnsweredRows):
        raise UserError(
            "teacher=privileged reads single dialogues, and datamodule.pack=true joins them: set it to false"
        )
    if (cut := data.used[own.lost[data.used] > 0]).size:
        raise UserError(
            f"{len(cut)} rows are cut to datamodule.max_length={data.max_length}, so that the teacher would read other "
            "answers: set datamodule.long=drop, or a larger max_length"
        )
    values = [
        added(value.with_system(processor.system), text)
        for value, text in zip(data.values, texts(data, system), strict=True)
    ]
    wide = processor.like(WHOLE, None, processor.last)
    known = hashlib.sha256(wide.digest.encode())
    for value in values:
        known.update(hashlib.sha256(value.key.encode()).digest())
    fingerprint = known.hexdigest()[:32]
    rows = wide.encode(values, fingerprint)
    view = RetokenizedRows(wide, data.labels, fingerprint, data.used, EncodedRows(rows, data.target))
    for row in data.used.tolist():
        if not np.array_equal(answer_of(own, row), answer_of(rows, row)):
            raise UserError(
                f"{values[row].where} has an answer that the chat template writes in another way after teacher.system: "
                "choose another model"
            )
    return view


def texts(data: ChatData, system: str) -> list[str]:
    """The system prompt of each row, with the values of its columns.

    Raises:
        UserError: it is empty, or a column is not there.
    """
    if not system.strip():
        raise UserError("teacher.system is empty, so that the teacher knows no more than the student: give a text")
    columns: dict[str, Sequence[Any]] = {name: data.column(name) for name in set(COLUMN.findall(system))}
    return [
        COLUMN.sub(lambda found: str(columns[found[1]][row]), system)  # noqa: B023
        for row in range(len(data.values))
    ]


def added(dialogue: Dialogue, text: str) -> Dialogue:
    """The dialogue with a text at the end of its system prompt.

    Example:
        >>> [one.content for one in added(Dialogue((Message("system", "a"), Message("user", "b"))), "c").messages]
        ['a\\n\\nc', 'b']
    """
    first = dialogue.messages[0]
    if first.role != "system":
        return dialogue.with_system(text)
    return Dialogue((Message("system", f"{first.content}\n\n{text}"), *dialogue.messages[1:]), dialogue.where)


def answer_of(rows: AnsweredRows, row: int) -> np.ndarray:
    """The ids of the answers of a row."""
    index = np.array([row])
    inputs, real = rows.collate(index)
    mark = rows.answers(index, real.shape[1])[ANSWER]
    return next(iter(inputs.values()))[mark].numpy()
