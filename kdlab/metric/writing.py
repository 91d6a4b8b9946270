"""Lets a model answer the prompts of some rows of a data set, and gathers the texts of all processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.generation import Sampling
from kdlab.metric.text.base import Written
from kdlab.task.generative import GenerativeTask, Source

ROWS = 32  # that are generated at a time: what a row gets depends neither on validation's batches nor on the split's
TRIED = 4  # tokens from which the time of more is estimated
T = TypeVar("T")


def write(
    task: GenerativeTask, data: Source, model: nn.Module, rows: Sequence[int], sampling: Sampling, seed: int = 0
) -> Written:
    """What a model answers to the prompts of some rows, in the precision of its weights.

    Mixed precision is off meanwhile: its rounding depends on how many rows are computed together, and one other token
    changes all that follow. torch's generator is afterwards as it was.

    Args:
        task: generates.
        data: has the rows.
        rows: ids.
        seed: of what is drawn, where ``sampling`` draws.
    """
    parts, device = [], next(model.parameters()).device
    with drawing(device, seed), torch.autocast(device.type, enabled=False):
        for batch in batches(data, rows):
            here = batch.to(device)
            made, expected = task.generate(model, here, sampling), task.reference(here)
            tokens, wanted = made.rows(), expected.rows()
            answers, references = (data.processor.decode(some) for some in (tokens, wanted))
            parts.append(
                Written(
                    batch.row.tolist(), _stripped(task.prompt_texts(batch, data)), _stripped(answers),
                    _stripped(references), tokens, wanted, made.ended(task.ends).tolist(),
                )
            )  # fmt: skip
    return Written.merged(parts)


def batches(data: Source, rows: Sequence[int]) -> Iterator[Batch]:
    """The rows in batches of ``ROWS``, longest first, so that few of a batch are padded much."""
    encoded = data.encoded_rows()
    index = np.sort(np.asarray(rows, dtype=np.int64))
    order = index[np.argsort(-encoded.rows.lengths[index], kind="stable")]
    yield from (encoded.batch(order[start : start + ROWS]) for start in range(0, len(order), ROWS))


def gathered(own: T) -> list[T]:
    """The values of all processes; every process calls it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    parts: list[T] = [own] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return parts


def spread(rows: np.ndarray, count: int | None) -> list[int]:
    """At most ``count`` of the rows at equal distances, the same ones each time; None: all.

    Example:
        >>> spread(np.arange(10), 3), spread(np.arange(2), None)
        ([0, 4, 9], [0, 1])
    """
    some = np.sort(rows)
    if count is not None and count < len(some):
        some = some[np.linspace(0, len(some) - 1, count).astype(int)] if count > 1 else some[:count]
    return [int(row) for row in some]


def seconds(task: GenerativeTask, data: Source, model: nn.Module, rows: Sequence[int], sampling: Sampling) -> float:
    """About how long this process computes to generate the rows, estimated from a few tokens of its first batch."""
    if not rows:
        return 0.0
    few = replace(sampling, max_new_tokens=min(TRIED, sampling.max_new_tokens))
    device = next(model.parameters()).device
    first = next(batches(data, rows)).to(device)
    with drawing(device, 0):
        task.generate(model, first, few)  # warms up
        begun = time.process_time()
        task.generate(model, first, few)
        taken = time.process_time() - begun
    return taken * sampling.max_new_tokens / few.max_new_tokens * len(rows) / len(first)


@contextmanager
def drawing(device: torch.device, seed: int) -> Iterator[None]:
    """Draws inside of this depend on the seed alone, and leave torch's generators as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _stripped(texts: Sequence[str]) -> list[str]:
    return [text.strip() for text in texts]
