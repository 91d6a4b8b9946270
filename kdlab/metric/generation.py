"""Scores of what a language model writes, beside the texts of the data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import final

import numpy as np
from torch import nn

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.generation import Sampling
from kdlab.metric.base import Evaluator
from kdlab.metric.text.base import Written
from kdlab.metric.text.catalogue import chosen, scores
from kdlab.metric.writing import batches, gathered, seconds, spread, write
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.task.generative import GenerativeTask, least_room
from kdlab.value import Count, NonNegative, Part, Seed, Whole

log = logging.getLogger(__name__)

PREFIX = "generation/"
STUDENT, TEACHER = "student", "teacher"  # of a sample: who wrote a text
SCORES = ("exact_match", "rouge", "bleu", "length", "ended", "repetition")


def directions() -> dict[str, bool | None]:
    """Whether more is better of every score that there is."""
    return {PREFIX + name: more for one in scores().values() for name, more in one.higher_is_better.items()}


@final
class Generation(Evaluator):
    """Generates an answer to some rows of a split once, and computes all scores of the same texts.

    The rows are the same each time, spread over the split. References are what the tokenizer makes of the data's own
    tokens, so that both texts went the same way: lower-cased or cut, where the tokenizer does that.

    Args:
        scores: names of files in ``kdlab/metric/text``.
        rows: most rows of a split that are generated; None: all.
        samples: rows whose texts are shown after each validation.
        primary: the number that the evaluator is for, such as ``bleu``; None: that of the first score.
        max_new_tokens, temperature, top_p, top_k: see :class:`kdlab.generation.Sampling`.
        seed: of what is drawn at a temperature above 0.

    Raises:
        UserError: an unknown score, or a library that is not installed.
    """

    needs = ("generation",)

    def __init__(
        self,
        scores: Sequence[str] = SCORES,
        rows: Count | None = 64,
        samples: Whole = 4,
        primary: str | None = None,
        max_new_tokens: Count = 64,
        temperature: NonNegative = 0.0,
        top_p: Part = 1.0,
        top_k: Whole = 0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.scores = chosen(scores)
        self.sampling = Sampling(max_new_tokens, temperature, top_p, top_k)
        self.limit, self.shown_rows, self.seed = rows, samples, seed
        self.higher_is_better = {
            PREFIX + name: more for one in self.scores.values() for name, more in one.higher_is_better.items()
        }
        first = next(iter(self.scores.values())).primary
        self.primary = PREFIX + (primary or first).removeprefix(PREFIX)
        if self.primary not in self.higher_is_better:
            names = ", ".join(name.removeprefix(PREFIX) for name in self.higher_is_better)
            raise UserError(f"metric.generation.primary={primary} is not among what is measured: choose one of {names}")
        self.rows: set[int] = set()  # that may be generated, of all splits
        self.samples_of: set[int] = set()
        self.met: set[int] = set()
        self.written: Written | None = None
        self.teacher_answers: dict[int, str] = {}
        self.warned = False

    def setup(self, task: Task, data: Data) -> None:
        assert isinstance(task, GenerativeTask)
        super().setup(task, data)
        self.data = data
        for index in data.splits.values():
            rows = spread(index, self.limit)
            self.rows.update(rows)
            self.samples_of.update(spread(np.array(rows, dtype=np.int64), self.shown_rows))

    def check(self, model: nn.Module) -> None:
        task, rows = self._task, np.array(sorted(self.rows), np.int64)
        new = self.sampling.max_new_tokens
        if (room := least_room(task, self.data.encoded_rows(), rows, model, new)) < new:
            raise UserError(
                f"metric.generation.max_new_tokens={new} is more than the {max(room, 0)} positions that "
                f"{type(model).__name__} has left after its longest prompt: set it to "
                + (f"{room} or less" if room > 0 else "less, and datamodule.max_length too")
            )
        for batch in batches(self.data, rows[:1].tolist()):
            task.generate(model, batch.to(next(model.parameters()).device), Sampling(1))

    def update(self, student: Output, batch: Batch, teacher: Output | None = None) -> None:
        self.met.update(self.rows.intersection(batch.row.tolist()))

    def finish(self, model: nn.Module, teacher: nn.Module | None = None) -> None:
        own = write(self._task, self.data, model, sorted(self.met), self.sampling, self.seed)
        if teacher is not None and (missing := sorted(self.met & self.samples_of - {*self.teacher_answers})):
            teacher.to(next(model.parameters()).device)
            of_teacher = write(self._task, self.data, teacher, missing, self.sampling, self.seed)
            self.teacher_answers |= dict(zip(of_teacher.rows, of_teacher.answers, strict=True))
        self.written = Written.merged(gathered(own))
        for answers in gathered(dict(self.teacher_answers)):
            self.teacher_answers |= answers
        longer = sum(len(one) > self.sampling.max_new_tokens for one in self.written.expected)
        if 2 * longer > len(self.written.rows) and not self.warned:
            self.warned = True
            log.warning(
                "%d of %d references have more than metric.generation.max_new_tokens=%d tokens, so that no answer can "
                "be as long", longer, len(self.written.rows), self.sampling.max_new_tokens,
            )  # fmt: skip

    def compute(self) -> dict[str, float]:
        if self.written is None:
            return {}
        return {
            PREFIX + name: value for one in self.scores.values() for name, value in one.compute(self.written).items()
        }

    def samples(self) -> list[dict[str, str | int]]:
        if self.written is None:
            return []
        found = []
        for place, row in enumerate(self.written.rows):
            if row in self.samples_of:
                line: dict[str, str | int] = {"row": row, "prompt": self.written.prompts[place]}
                line |= {"reference": self.written.references[place], STUDENT: self.written.answers[place]}
                found.append(line | ({TEACHER: self.teacher_answers[row]} if row in self.teacher_answers else {}))
        return found

    def seconds(self, model: nn.Module, split: str) -> float:
        rows = [row for row in self.data.splits[split].tolist() if row in self.rows]
        return seconds(self._task, self.data, model, rows, self.sampling)

    def shown(self, first: bool) -> list[str]:
        return [PREFIX + one.primary for one in self.scores.values()]

    def signatures(self) -> dict[str, str]:
        return {PREFIX + name: one.signature for name, one in self.scores.items() if one.signature}

    def reset(self) -> None:
        super().reset()
        self.met, self.written = set(), None

    @property
    def _task(self) -> GenerativeTask:
        assert isinstance(self.task, GenerativeTask)
        return self.task
