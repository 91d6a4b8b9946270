"""A teacher that reads more than its student, whose outputs on all rows were computed once and are read from disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from torch import nn

from kdlab.batch import Batch
from kdlab.datamodule.chat_data import ChatData
from kdlab.datamodule.data import Data
from kdlab.datamodule.retokenized import RetokenizedRows
from kdlab.output import Output
from kdlab.task.base import Task
from kdlab.task.generative import GenerativeTask
from kdlab.teacher.base import Saved, Teacher
from kdlab.teacher.cached import Cached
from kdlab.teacher.privileged import check_room, informed, moved, only_logits, unreadable
from kdlab.top_k import TEMPERATURES
from kdlab.value import Count, Positive


@final
class PrivilegedCached(Teacher):
    """Reads stored outputs on dialogues with a system prompt that the student does not see, at the student's positions.

    They equal those of :class:`kdlab.teacher.privileged.Privileged` to rounding. The system prompt of each row is part
    of the address of the store.

    Args:
        trained: the trained teacher; it runs once on every row.
        task: reads it.
        data: dialogues, none of which is cut.
        taps: must be empty.
        store: the folder of all stores.
        system: a text that is added to the system prompt of each dialogue; ``{NAME}`` is the row's value of a column.
        tokens_per_batch, top_k, temperatures, top_k_dtype: see :class:`kdlab.teacher.cached.Cached`.

    Raises:
        UserError: rows that are no dialogues, are cut or packed, are too long for the teacher, or have other answers
            with the system prompt.

    Source: Snell et al. 2022 (context distillation), arXiv:2209.15189.
    """

    chunks = True
    reads_new_rows = False
    running = "privileged"

    def __init__(
        self,
        trained: Saved,
        task: Task,
        data: Data | RetokenizedRows,
        taps: Collection[str],
        store: Path,
        system: str,
        tokens_per_batch: Count = 4096,
        top_k: Count | None = None,
        temperatures: Sequence[Positive] = TEMPERATURES,
        top_k_dtype: Literal["packed", "float32", "float16", "bfloat16"] = "packed",
    ) -> None:
        if not isinstance(data, ChatData) or not isinstance(task, GenerativeTask):
            raise unreadable("privileged_cached")
        self.view = informed(data, system)
        self.cached = Cached(
            Roomy(trained, self.view), task, self.view, (), store, tokens_per_batch, "float32", top_k, temperatures,
            top_k_dtype,
        )  # fmt: skip
        self.top_k, self.store, self.seconds = top_k, self.cached.store, self.cached.seconds

    @classmethod
    def accept(cls, taps: Collection[str]) -> None:
        only_logits("privileged_cached", taps)

    def read(self, task: Task, batch: Batch) -> Output:
        assert batch.tokens is not None
        found = self.cached.read(task, self.view.again(batch))
        return moved(found, task.frame(batch.tokens[..., None], batch))

    def widths(self) -> Mapping[str, int]:
        return {}


@final
@dataclass(frozen=True)
class Roomy:
    """A trained model that is refused when it is loaded, where it has not the positions for the rows."""

    trained: Saved
    view: RetokenizedRows

    @property
    def id(self) -> str:
        return self.trained.id

    @property
    def model(self) -> nn.Module:
        check_room(self.trained.model, self.view)
        return self.trained.model

    @property
    def fingerprint(self) -> str:
        return self.trained.fingerprint
