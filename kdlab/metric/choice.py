"""Accuracy by likelihood: whether a language model finds the right answer the likeliest among candidates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.datamodule.batch import EncodedRows, within
from kdlab.datamodule.chat_data import ChatData
from kdlab.datamodule.data import Data
from kdlab.datamodule.dialogue import ASSISTANT, Dialogue, Message
from kdlab.datamodule.processor.chat import Chat
from kdlab.datamodule.target import Labels
from kdlab.error import UserError
from kdlab.metric.base import Evaluator
from kdlab.metric.writing import gathered, spread
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.task.generative import GenerativeTask
from kdlab.value import Count

ACCURACY, BY_TOKEN = "choice/accuracy", "choice/accuracy_by_token"
TOKENS = 4096  # of a batch


@final
class Choice(Evaluator):
    """Reads each row with every candidate in the place of its last answer, and compares their likelihoods.

    ``choice/accuracy`` compares the sums over the tokens of an answer, the end of the turn among them, and
    ``choice/accuracy_by_token`` their means.

    Args:
        column: of the file, with the candidates of a row as a list, the row's answer among them; None: the different
            answers of all rows, such as the labels of a table that ``datamodule.completion_column`` names.
        rows: most rows of a split that are measured; None: all.
        most: the largest number of different answers, where no column has them.

    Source: Brown et al. 2020, arXiv:2005.14165, section 2.4; Gao et al. 2021, Language Model Evaluation Harness.
    """

    needs = ("generation",)
    primary = ACCURACY
    shares = (ACCURACY, BY_TOKEN)
    higher_is_better = {ACCURACY: True, BY_TOKEN: True}  # noqa: RUF012

    def __init__(self, column: str | None = None, rows: Count | None = 256, most: Count = 20) -> None:
        super().__init__()
        self.column, self.limit, self.most = column, rows, most
        self.met: set[int] = set()
        self.found: dict[int, tuple[bool, bool]] = {}

    def setup(self, task: Task, data: Data) -> None:
        super().setup(task, data)
        if not isinstance(data, ChatData) or data.packs:
            raise UserError(
                "metric=choice puts candidates in the place of answers, so it needs single dialogues: choose "
                "datamodule=chat, of a table with prompt_column=text and completion_column=label"
            )
        self.data = data
        measured = [row for index in data.splits.values() for row in spread(index, self.limit)]
        self.candidates = candidates(data, sorted(set(measured)), self.column, self.most)

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        self.met.update(row for row in batch.row.tolist() if row in self.candidates)

    def finish(self, model: nn.Module, teacher: nn.Module | None = None) -> None:
        task, rows = self.task, sorted(self.met)
        assert isinstance(task, GenerativeTask)
        self.found = {}
        if rows:
            device = next(model.parameters()).device
            encoded, owner = variants(self.data, rows, self.candidates)
            sums, means = torch.empty(len(owner)), torch.empty(len(owner))
            with torch.no_grad():
                for batch in within(encoded, np.arange(len(owner)), TOKENS):
                    here = batch.to(device)
                    output = task.read(model, here)
                    sums[batch.row], means[batch.row] = (one.cpu() for one in likelihoods(output))
            for row in rows:
                own = torch.from_numpy(np.flatnonzero(owner == row))
                right = self.candidates[row][1]
                self.found[row] = (int(sums[own].argmax()) == right, int(means[own].argmax()) == right)

    def compute(self) -> dict[str, float]:
        together: dict[int, tuple[bool, bool]] = {}
        for part in gathered(self.found):
            together |= part
        if not together:
            return {}
        return {
            name: sum(one[place] for one in together.values()) / len(together)
            for place, name in enumerate((ACCURACY, BY_TOKEN))
        }

    def reset(self) -> None:
        super().reset()
        self.met, self.found = set(), {}


def likelihoods(output: Output) -> tuple[Tensor, Tensor]:
    """The log likelihood of the answer of each row, ``[B]`` twice: in all, and by token; in nats.

    Args:
        output: logits ``[B, L, V]``, with the tokens that follow as its labels.

    Example:
        >>> mask = torch.tensor([[True, True, False]])
        >>> output = Output(torch.zeros(1, 3, 4), mask, label=torch.tensor([[1, 2, -1]]))
        >>> [round(float(one), 3) for one in likelihoods(output)]
        [-2.773, -1.386]
    """
    assert output.label is not None
    logits = output.logits if output.head is None else output.head(output.logits)
    log_values = logits.float().log_softmax(-1).gather(-1, output.label.clamp(min=0)[..., None])[..., 0]
    total = log_values.where(output.mask, 0).sum(-1)
    return total, total / output.mask.sum(-1).clamp(min=1)


def candidates(data: ChatData, rows: Sequence[int], column: str | None, most: int) -> dict[int, tuple[list[str], int]]:
    """The candidates of each row, and which of them is right.

    Raises:
        UserError: a row has none, or its own answer is not among them, or there are too many different answers.
    """
    answers = {row: data.values[row].messages[-1].content for row in rows}
    if column is None:
        shared = sorted({*(one.messages[-1].content for one in data.values)})
        if not 2 <= len(shared) <= most:
            raise UserError(
                f"{data.source} has {len(shared)} different answers, but candidates are from 2 to metric.choice.most="
                f"{most}: name a column with the candidates of each row (metric.choice.column)"
            )
        return {row: (shared, shared.index(answer)) for row, answer in answers.items()}
    cells = data.column(column)
    found = {}
    for row, answer in answers.items():
        given = listed(cells[row])
        if len(given) < 2 or answer not in given:
            raise UserError(
                f"{data.values[row].where}: '{column}' must be a list of two or more candidates with the row's answer "
                f"'{answer[:60]}' among them"
            )
        found[row] = (given, given.index(answer))
    return found


def listed(cell: Any) -> list[str]:
    """The texts of a cell: a list, or one as JSON; empty where it is neither.

    Example:
        >>> listed('["a", "b"]'), listed(("a", "b")), listed("a")
        (['a', 'b'], ['a', 'b'], [])
    """
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            return []
    return [str(one) for one in cell] if isinstance(cell, list | tuple | np.ndarray) else []


def variants(
    data: ChatData, rows: Sequence[int], known: dict[int, tuple[list[str], int]]
) -> tuple[EncodedRows, np.ndarray]:
    """A row for each candidate of each of ``rows``, and ``[M]``, of which row each of these is."""
    values, owner = [], []
    for row in rows:
        dialogue = data.values[row]
        for text in known[row][0]:
            turns = (*dialogue.messages[:-1], Message(ASSISTANT, text))
            values.append(Dialogue(turns, dialogue.where))
            owner.append(row)
    own = data.processor
    assert isinstance(own, Chat)
    processor = own.like(own.max_length, own.system, last=True)
    digest = hashlib.sha256(f"choice {processor.digest}".encode())
    for value in values:
        digest.update(hashlib.sha256(value.key.encode()).digest())
    encoded = processor.encode(values, digest.hexdigest()[:32])
    return EncodedRows(encoded, Labels((), np.full(len(values), -1, np.int64))), np.array(owner)
