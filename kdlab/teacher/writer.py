"""A teacher as a writer: it answers the prompts of all training rows once, and the student learns from its answers."""

from __future__ import annotations

from pathlib import Path
from typing import final

from kdlab.datamodule.data import Data
from kdlab.error import UserError
from kdlab.generation import Sampling
from kdlab.store.answers import open_answers
from kdlab.task.base import Task
from kdlab.task.generative import GenerativeTask
from kdlab.task.written import rewritten
from kdlab.teacher.base import Saved
from kdlab.value import Count, NonNegative, Part, Seed, Whole


@final
class Writer:
    """How a teacher writes. Its answers are stored, so that all runs of a sweep learn from the same.

    Args:
        max_new_tokens, temperature, top_p, top_k, num_beams: as for :class:`kdlab.generation.Sampling`; by default the
            likeliest answer that a search over beams finds.
        tokens_per_batch: the number of tokens in a batch of rows, without those that are written.
        seed: of what is drawn, for all seeds of the student; with beams nothing is drawn.

    Source: Kim, Rush 2016, arXiv:1606.07947, section 3.2 (the mode of the teacher's distribution, by beam search).
    """

    def __init__(
        self,
        max_new_tokens: Count = 64,
        temperature: NonNegative = 0.0,
        top_p: Part = 1.0,
        top_k: Whole = 0,
        num_beams: Count = 4,
        tokens_per_batch: Count = 1024,
        seed: Seed = 0,
    ) -> None:
        self.sampling = Sampling(max_new_tokens, temperature, top_p, top_k, num_beams)
        self.tokens_per_batch, self.seed = tokens_per_batch, seed
        self.seconds = 0.0

    def rewrite(self, data: Data, task: Task, trained: Saved, store: Path) -> Data:
        """The data with the teacher's answers to the prompts of its training rows.

        Args:
            trained: the teacher.
            store: the folder of all stores.

        Raises:
            UserError: the rows are augmented, or the answers are longer than the teacher can read.
        """
        assert isinstance(task, GenerativeTask)
        if data.augment is not None:
            raise UserError(
                "the teacher's answers belong to the texts as they are, but datamodule.augment changes them: leave "
                "datamodule/augment out"
            )
        answers, found = open_answers(trained, task, data, self.sampling, self.seed, store, self.tokens_per_batch)
        self.seconds = found.seconds
        return rewritten(data, task, answers, found.folder.name)
