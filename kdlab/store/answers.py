"""A frozen model's answers to the prompts of training rows: written once, and shared by all runs that ask for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdlab.datamodule.batch import within
from kdlab.datamodule.data import Data
from kdlab.generation import Sampling
from kdlab.precision import current
from kdlab.store.build import TargetChunk, open_or_build
from kdlab.store.inference import devices
from kdlab.store.store import Store, key
from kdlab.task.generative import GenerativeTask
from kdlab.task.written import Answers
from kdlab.terminal import Bar

ANSWER, LENGTH = "answer", "answer_length"  # the arrays of such a store


def content(fingerprint: str, task: GenerativeTask, data: Data, sampling: Sampling, seed: int) -> dict[str, Any]:
    """All that decides the answers.

    Args:
        fingerprint: of the model.
        seed: of what is drawn; greedy answers do not depend on it.
    """
    return {
        "writer": fingerprint,
        "task": task.kind,
        "prompts": dict(task.prompts),
        "data": data.fingerprint,
        "rows": hashlib.sha256(np.sort(data.splits["train"]).astype(np.int64).tobytes()).hexdigest()[:16],
        "sampling": asdict(sampling),
        "seed": None if sampling.greedy else seed,
        "precision": current(),
    }


def write(
    model: nn.Module, task: GenerativeTask, data: Data, sampling: Sampling, seed: int, tokens_per_batch: int,
    numbers: Iterator[int],
) -> Iterator[TargetChunk]:  # fmt: skip
    """The answers to some batches of training rows. What is drawn depends on the seed and the number of the batch.

    Args:
        numbers: of the batches.
    """
    batches = within(data.encoded_rows(), data.splits["train"], tokens_per_batch)
    device = devices()[0]
    model = model.eval().to(device)
    bar = Bar("answers of the teacher", len(batches))
    try:
        for number in numbers:
            batch = batches[number].to(device)
            with torch.random.fork_rng() if device != "cpu" else torch.random.fork_rng(devices=[]):
                torch.manual_seed(hash((seed, number)) % 2**63)
                made = task.generate(model, batch, sampling)
            tokens = np.zeros((len(batch), sampling.max_new_tokens), np.int32)
            tokens[:, : made.tokens.shape[1]] = made.tokens.where(made.real, 0).cpu().numpy()
            lengths = made.lengths.cpu().numpy().astype(np.int32)
            bar.update(number + 1)
            yield TargetChunk(batch.row.cpu().numpy(), {ANSWER: ("row", tokens), LENGTH: ("row", lengths)})
    finally:
        bar.close()


def open_answers(
    model: Any, task: GenerativeTask, data: Data, sampling: Sampling, seed: int, store: Path, tokens_per_batch: int
) -> tuple[Answers, Store]:
    """The answers of a model to the prompts of the training rows, from a store that is built where it is missing.

    Args:
        model: a saved one (:class:`kdlab.teacher.base.Saved`), loaded where it has to write.
        store: the folder of all stores.
        tokens_per_batch: the number of tokens of the rows of a batch.
    """
    known = content(model.fingerprint, task, data, sampling, seed)
    batches = within(data.encoded_rows(), data.splits["train"], tokens_per_batch)
    if not sampling.greedy:
        known["tokens_per_batch"] = tokens_per_batch  # what is drawn for a row depends on its batch

    def build(numbers: Iterator[int]) -> Iterator[TargetChunk]:
        return write(model.model, task, data, sampling, seed, tokens_per_batch, numbers)

    described = {"of": f"the answers of {model.id}"}
    found = open_or_build(store, key(**known), known | described, data.lengths, batches.groups, build)
    rows = np.sort(data.splits["train"])
    return Answers(found.arrays[ANSWER], found.arrays[LENGTH], rows), found
